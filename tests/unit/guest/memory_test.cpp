#include "guest/memory.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

namespace gangway::guest {
namespace {

std::unique_ptr<GuestMemory> make_memory(std::uint64_t size) {
  auto memory = GuestMemory::create({.size = size});
  EXPECT_TRUE(memory.has_value()) << memory.error().message;
  return std::move(*memory);
}

TEST(GuestMemory, blocks_cover_the_size_at_fixed_addresses) {
  const auto memory = make_memory(11U << 20);
  ASSERT_EQ(memory->blocks().size(), 2U);
  EXPECT_EQ(memory->size(), 12U << 20);  // rounded up
  EXPECT_EQ(memory->blocks()[0].name, "ram0");
  EXPECT_EQ(memory->blocks()[0].range, (IovaRange{{2U << 20}, 6U << 20}));
  EXPECT_EQ(memory->blocks()[1].name, "ram1");
  EXPECT_EQ(memory->blocks()[1].range, (IovaRange{{4ULL << 30}, 6U << 20}));
}

TEST(GuestMemory, the_low_block_ends_below_3_gib) {
  const auto memory = make_memory(16ULL << 30);
  EXPECT_EQ(memory->blocks()[0].range.start.value + memory->blocks()[0].range.size, 3ULL << 30);
  EXPECT_EQ(memory->blocks()[0].range.size + memory->blocks()[1].range.size, 16ULL << 30);
}

TEST(GuestMemory, both_views_show_the_same_bytes) {
  const auto memory = make_memory(GuestMemory::kSmallest);
  const auto& block = memory->blocks()[1];
  block.cpus.bytes()[4097] = std::byte{42};
  EXPECT_EQ(block.migration.bytes()[4097], std::byte{42});
  EXPECT_NE(block.migration.bytes().data(), block.cpus.bytes().data());
}

TEST(GuestMemory, addresses_outside_a_block_give_nothing) {
  const auto memory = make_memory(GuestMemory::kSmallest);
  const std::uint64_t start = memory->blocks()[0].range.start.value;
  const std::uint64_t size = memory->blocks()[0].range.size;
  EXPECT_EQ(memory->at({start}, size).size(), size);
  EXPECT_TRUE(memory->at({start}, size + 1).empty());
  EXPECT_TRUE(memory->at({start - 1}, 2).empty());
  EXPECT_TRUE(memory->at({start + size}, 1).empty());
  EXPECT_TRUE(memory->at({start + size - 1}, 2).empty());
  EXPECT_TRUE(memory->at({~0ULL}, 2).empty());
  EXPECT_TRUE(memory->at({start + 8}, ~0ULL).empty());
  EXPECT_EQ(memory->object<std::uint64_t>({start + 4}), nullptr);  // misaligned
  EXPECT_TRUE(memory->objects<std::uint64_t>({start}, (1ULL << 61) + 1).empty());
}

TEST(GuestMemory, too_small_a_size_is_refused) {
  const auto memory = GuestMemory::create({.size = 4096});
  ASSERT_FALSE(memory.has_value());
  EXPECT_EQ(memory.error().code, EINVAL);
  EXPECT_EQ(memory.error().message, "guest memory of 4096 bytes: must be 4 MiB or more");
}

TEST(GuestMemory, recorded_writes_name_every_page_they_touch) {
  const auto memory = make_memory(GuestMemory::kSmallest);
  const auto view = memory->blocks()[1].cpus.bytes();
  std::array<std::uint64_t, 8> bitmap{};
  memory->note_write(&view[0], 1);  // not recorded yet
  memory->record_writes(true);
  memory->note_write(&view[kPageSize - 1], 2);
  memory->note_write(&view[70 * kPageSize], kPageSize);
  memory->take_writes(1, bitmap);
  EXPECT_EQ(bitmap[0], 0b11U);
  EXPECT_EQ(bitmap[1], 1U << 6);
  std::array<std::uint64_t, 8> again{};
  memory->take_writes(1, again);
  EXPECT_EQ(again, (std::array<std::uint64_t, 8>{}));
}

}  // namespace
}  // namespace gangway::guest
