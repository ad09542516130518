// What the NVMe fuzzer reads its input as: steps, a byte that chooses and its operands. Shared with what writes seeds.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace gangway::fuzz {

enum class NvmeStep : std::uint8_t {
  AdminCommand,   // 1 and 2, too
  IoCommand = 3,  // of a queue that the byte's upper bits choose
  MoreIoCommand,
  WriteRegister,
  RingDoorbell,
  WriteMemory,
};

// An even opcode of the input stands for one of those that controllers have, an odd one for itself.
inline constexpr std::array<std::uint8_t, 11> kNvmeOpcodes{0x00, 0x01, 0x02, 0x04, 0x05, 0x06,
                                                           0x08, 0x09, 0x0a, 0x0c, 0x7c};
[[nodiscard]] constexpr std::uint8_t nvme_opcode(std::uint8_t of_input) {
  return of_input % 2 == 0 ? kNvmeOpcodes[of_input / 2U % kNvmeOpcodes.size()] : of_input;
}
[[nodiscard]] constexpr std::uint8_t nvme_opcode_for_input(std::uint8_t opcode) {
  for (std::size_t i = 0; i < kNvmeOpcodes.size(); ++i) {
    if (kNvmeOpcodes[i] == opcode) return static_cast<std::uint8_t>(i * 2);
  }
  return opcode;
}

}  // namespace gangway::fuzz
