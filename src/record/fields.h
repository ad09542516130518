// An act in words: the fields that it has, by name, and which of them two sessions may differ in.
//
// The rule of what may differ stands here and nowhere else, as the kind of each field; docs/trace.md prints it.
//
// Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "record/act.h"

namespace gangway::record {

struct Field {
  enum class Kind : std::uint8_t {
    Plain,   // two sessions that do the same have the same
    Clock,   // when, and how long
    Handle,  // a number that somebody chose to name something
    Opaque,  // content that is the device's or the guest's own, and its amount where that follows from it
  };
  using Value = std::variant<std::uint64_t, bool, std::string>;

  std::string_view name;
  Value value;
  Kind kind = Kind::Plain;
  bool hexadecimal = false;  // how a person reads it

  friend bool operator==(const Field&, const Field&) = default;
};

// What the act is about, and what came of it; not when.
[[nodiscard]] std::vector<Field> fields(const Act& act);

[[nodiscard]] std::string text(const Field& field);

// "RUNNING", or the number of what is no state.
[[nodiscard]] std::string state_text(std::uint32_t state);
// "MIG_DEVICE_STATE", or the number.
[[nodiscard]] std::string feature_text(std::uint16_t feature);

}  // namespace gangway::record
