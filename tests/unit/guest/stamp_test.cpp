#include "guest/stamp.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

namespace gangway::guest {
namespace {

constexpr Stamp kStamp{.seed = 7, .owner = 1, .address = 0x4000, .generation = 5};
using Bytes = std::array<std::byte, kUnitSize>;

Bytes stamped(const Stamp& stamp) {
  Bytes bytes;
  write_stamp(bytes, stamp);
  return bytes;
}

TEST(Stamp, a_unit_is_recognized_as_what_was_written) { EXPECT_TRUE(has_stamp(stamped(kStamp), kStamp)); }

TEST(Stamp, another_place_or_generation_is_not) {
  const Bytes unit = stamped(kStamp);
  EXPECT_FALSE(has_stamp(unit, {.seed = 8, .owner = 1, .address = 0x4000, .generation = 5}));
  EXPECT_FALSE(has_stamp(unit, {.seed = 7, .owner = 2, .address = 0x4000, .generation = 5}));
  EXPECT_FALSE(has_stamp(unit, {.seed = 7, .owner = 1, .address = 0x5000, .generation = 5}));
  EXPECT_FALSE(has_stamp(unit, {.seed = 7, .owner = 1, .address = 0x4000, .generation = 4}));
}

TEST(Stamp, a_flipped_bit_anywhere_is_seen) {
  for (std::size_t byte = 0; byte < kUnitSize; ++byte) {
    Bytes unit = stamped(kStamp);
    unit[byte] ^= std::byte{0x10};
    ASSERT_FALSE(has_stamp(unit, kStamp)) << "byte " << byte;
    ASSERT_FALSE(mixes_generations(unit, kStamp, 4, 6)) << "byte " << byte;
  }
}

TEST(Stamp, a_torn_unit_mixes_generations_and_has_no_stamp) {
  Bytes unit = stamped(kStamp);
  Stamp newer = kStamp;
  newer.generation = 6;
  const Bytes other = stamped(newer);
  std::memcpy(unit.data() + 1024, other.data() + 1024, 512);
  EXPECT_FALSE(has_stamp(unit, kStamp));
  EXPECT_TRUE(mixes_generations(unit, kStamp, 5, 6));
  EXPECT_FALSE(mixes_generations(unit, kStamp, 5, 5));
  EXPECT_FALSE(mixes_generations(unit, kStamp, 6, 7));
}

TEST(Stamp, describing_a_unit_says_what_it_claims) {
  Bytes unit = stamped(kStamp);
  EXPECT_EQ(describe_unit(unit), "disk 1 at 0x4000, generation 5, checksum right");
  unit[100] ^= std::byte{1};
  EXPECT_EQ(describe_unit(unit), "disk 1 at 0x4000, generation 5, checksum wrong");
  unit.fill(std::byte{0});
  EXPECT_EQ(describe_unit(unit), "no stamp (begins 0000000000000000 0000000000000000)");
}

}  // namespace
}  // namespace gangway::guest
