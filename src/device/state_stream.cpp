#include <gangway/state_stream.h>

#include <utility>

#include <fmt/format.h>

namespace gangway {

void StateWriter::section(std::string_view name, std::span<const std::byte> bytes) {
  sections_.push_back({std::string(name), {bytes.begin(), bytes.end()}});
}

void StateWriter::section(std::string_view name, std::string_view bytes) {
  section(name, std::as_bytes(std::span(bytes)));
}

void StateReader::add(std::string name, std::vector<std::byte> bytes) {
  sections_.insert_or_assign(std::move(name), std::move(bytes));
}

Result<std::span<const std::byte>> StateReader::section(std::string_view name) const {
  const auto found = sections_.find(name);
  if (found == sections_.end()) return fail(ENODATA, fmt::format("state stream: no section '{}'", name));
  return std::span<const std::byte>(found->second);
}

bool StateReader::has(std::string_view name) const { return sections_.contains(name); }

}  // namespace gangway
