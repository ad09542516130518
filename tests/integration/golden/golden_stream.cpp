#include "integration/golden/golden_stream.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace gangway::golden {
namespace {

using nlohmann::ordered_json;

std::string hex(const Bytes& bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

Result<Bytes> from_hex(std::string_view text) {
  Bytes bytes(text.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    unsigned value = 0;
    const char* const end = text.data() + 2 * i + 2;
    if (std::from_chars(end - 2, end, value, 16).ptr != end) return fail(EINVAL, fmt::format("'{}' is not hex", text));
    bytes[i] = static_cast<std::byte>(value);
  }
  return bytes;
}

Result<Bytes> read_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator(in), {}};
  if (!in) return fail(EIO, "cannot read " + file.string());
  Bytes bytes(text.size());
  std::ranges::transform(text, bytes.begin(), [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

}  // namespace

Result<GoldenStream> GoldenStream::read(const std::filesystem::path& json) {
  std::ifstream in(json);
  const auto said = ordered_json::parse(in, nullptr, false);
  if (!said.is_object()) return fail(EINVAL, json.string() + " is no JSON object");
  GoldenStream golden{.device = said.at("device"), .release = said.at("release")};
  for (const auto& one : said.at("registers")) {
    golden.registers.push_back({one.at("region"), one.at("offset"), one.at("size")});
    Result<Bytes> value = from_hex(one.at("value").get<std::string>());
    if (!value) return std::unexpected(value.error());
    golden.values.push_back(*std::move(value));
  }
  Result<Bytes> stream = read_file(std::filesystem::path(json).replace_extension(".stream"));
  if (!stream) return std::unexpected(stream.error());
  golden.stream = *std::move(stream);
  return golden;
}

Result<void> GoldenStream::write(const std::filesystem::path& folder) const {
  const std::filesystem::path base = folder / fmt::format("{}-{}", device, release);
  const std::filesystem::path json = base.string() + ".json";
  const std::filesystem::path data = base.string() + ".stream";
  if (std::filesystem::exists(json) || std::filesystem::exists(data)) {
    return fail(EEXIST, json.string() + " exists, and what a release saved does not change");
  }
  ordered_json said{{"device", device}, {"release", release}, {"registers", ordered_json::array()}};
  for (std::size_t i = 0; i < registers.size(); ++i) {
    const Register& one = registers[i];
    said["registers"].push_back(
        {{"region", one.region}, {"offset", one.offset}, {"size", one.size}, {"value", hex(values[i])}});
  }
  std::ofstream(json) << said.dump(1) << '\n';
  std::ofstream out(data, std::ios::binary);
  out.write(reinterpret_cast<const char*>(stream.data()), static_cast<std::streamsize>(stream.size()));
  out.flush();
  if (!out) return fail_errno("write " + data.string());
  return {};
}

}  // namespace gangway::golden
