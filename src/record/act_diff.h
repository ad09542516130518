// Two sessions, act by act: what one has and the other has not.
//
// Compared are the plain fields of acts (fields.h). Connections are paired in their order; within a connection the
// client's acts are compared with the client's and the device's with the device's, since nothing orders the two.
//
// Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "record/act.h"

namespace gangway::record {

struct Difference {
  std::uint32_t connection = 0;  // counted from 1 in the order of the recording
  bool by_device = false;
  // One of them, or both where the same act has other fields. Numbers count the acts of this connection and side
  // from 1.
  std::optional<std::size_t> left;
  std::optional<std::size_t> right;
  std::string left_text;
  std::string right_text;
};

struct Comparison {
  std::vector<Difference> differences;
  std::size_t same = 0;  // acts
  bool gave_up = false;  // the sessions have hardly anything in common: there are more differences
};
[[nodiscard]] Comparison compare(std::span<const Act> left, std::span<const Act> right);

// Name and plain fields: what two acts are compared by.
[[nodiscard]] std::string comparable(const Act& act);

}  // namespace gangway::record
