// golden_stream_writer RELEASE FOLDER: saves each device in its state worth keeping, checks that it loads, and keeps
// it.
#include <fmt/core.h>

#include "integration/golden/golden_stream.h"

namespace gangway::golden {
namespace {

Result<GoldenStream> make(const Kind& kind, const std::string& release) {
  GoldenStream golden{.device = std::string(kind.name), .release = release, .registers = kind.registers};
  {
    auto source = Served::start(kind);
    if (!source) return std::unexpected(source.error());
    const Result<Surroundings> around = kind.shape(source->device());
    if (!around) return std::unexpected(around.error());
    Result<Bytes> stream = save(source->device());
    if (!stream) return std::unexpected(stream.error());
    golden.stream = *std::move(stream);
    // After the save: reading may take what it reads.
    auto values = read_registers(source->device(), kind.registers);
    if (!values) return std::unexpected(values.error());
    golden.values = *std::move(values);
  }
  auto destination = Served::start(kind);
  if (!destination) return std::unexpected(destination.error());
  const Result<Surroundings> around = kind.surround(destination->device());
  if (!around) return std::unexpected(around.error());
  if (Result<void> loaded = load(destination->device(), golden.stream); !loaded) {
    return std::unexpected(loaded.error());
  }
  const auto values = read_registers(destination->device(), kind.registers);
  if (!values) return std::unexpected(values.error());
  if (*values != golden.values) return fail(EIO, "the registers differ where the stream was loaded");
  return golden;
}

int write_all(const std::string& release, const std::string& folder) {
  for (const Kind& kind : kinds()) {
    const Result<GoldenStream> golden = make(kind, release);
    const Result<void> kept = golden ? golden->write(folder) : std::unexpected(golden.error());
    if (!kept) {
      fmt::print(stderr, "{}: {}\n", kind.name, kept.error().message);
      return 1;
    }
    fmt::print("{}-{}: {} bytes\n", kind.name, release, golden->stream.size());
  }
  return 0;
}

}  // namespace
}  // namespace gangway::golden

int main(int argc, char** argv) {
  if (argc != 3) return fmt::print(stderr, "usage: golden_stream_writer RELEASE FOLDER\n"), 2;
  return gangway::golden::write_all(argv[1], argv[2]);
}
