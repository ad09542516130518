#include "guest/program.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "guest/program_state.h"

namespace gangway::guest {
namespace {

std::unique_ptr<GuestMemory> make_memory(std::uint64_t size = 32U << 20) {
  auto memory = GuestMemory::create({.size = size});
  EXPECT_TRUE(memory.has_value()) << memory.error().message;
  return std::move(*memory);
}

ProgramConfig example(const GuestMemory& memory) {
  ProgramConfig config;
  config.memory_size = memory.size();
  config.disk_count = 2;
  config.queues = 2;
  config.depth = 16;
  config.block_size = 8192;
  config.memory_cpus = 2;
  config.memory_pages = 512;
  for (std::uint32_t disk = 0; disk < 2; ++disk) {
    config.disks[disk] = {.blocks = 10, .extent_count = 2, .extents = {Extent{4096, 20480}, Extent{65536, 65536}}};
  }
  return config;
}

TEST(Program, blocks_lie_within_the_extents_and_apart) {
  const DiskConfig disk{.blocks = 10, .extent_count = 2, .extents = {Extent{4096, 20480}, Extent{65536, 65536}}};
  EXPECT_EQ(count_blocks(std::span(disk.extents).first(2), 8192), 10U);  // 2 in the first, whose rest is too short
  EXPECT_EQ(block_address(disk, 8192, 0), 4096U);
  EXPECT_EQ(block_address(disk, 8192, 1), 4096U + 8192);
  EXPECT_EQ(block_address(disk, 8192, 2), 65536U);
  EXPECT_EQ(block_address(disk, 8192, 9), 65536U + 7 * 8192);
}

TEST(Program, parts_lie_in_ram_without_overlap) {
  const auto memory = make_memory();
  const ProgramConfig config = example(*memory);
  const auto layout = lay_out(config, *memory);
  ASSERT_TRUE(layout.has_value()) << layout.error().message;
  std::set<std::pair<std::uint64_t, std::uint64_t>> parts;  // start, end
  const auto add = [&](Iova at, std::uint64_t size) {
    EXPECT_FALSE(memory->at(at, size).empty()) << std::hex << at.value;
    parts.emplace(at.value, at.value + size);
  };
  add(memory->blocks()[0].range.start, kConfigSpace);
  for (const DiskLayout& disk : layout->disks) {
    add(disk.state, sizeof(DiskState));
    add(disk.driver, sizeof(NvmeState));
    add(disk.admin_submission, kPageSize);
    add(disk.admin_completion, kPageSize);
    add(disk.identify, kPageSize);
    add(disk.table, 10 * sizeof(BlockState));
    for (const QueueLayout& queue : disk.queues) {
      add(queue.submission, queue.entries * 64ULL);
      add(queue.completion, queue.entries * 16ULL);
      add(queue.slots, 16 * sizeof(Slot));
      add(queue.prps, 16 * kPrpListSize);
      add(queue.buffers, 16 * 8192ULL);
    }
  }
  for (const MemoryCpuLayout& cpu : layout->memory_cpus) {
    add(cpu.state, sizeof(MemoryState));
    add(cpu.table, 512 * 4);
    add(cpu.pages, 512 * kPageSize);
  }
  std::uint64_t end = 0;
  for (const auto& [from, to] : parts) {
    EXPECT_GE(from, end);
    end = to;
  }
  EXPECT_EQ(parts.size(), 1U + 2 * (6 + 2 * 5) + 2 * 3);
}

TEST(Program, a_stored_configuration_is_loaded_the_same) {
  const auto memory = make_memory();
  const auto stored = store_config(example(*memory), *memory);
  ASSERT_TRUE(stored.has_value()) << stored.error().message;
  const auto loaded = load_config(*memory);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  EXPECT_EQ(std::memcmp(&*stored, &*loaded, sizeof *stored), 0);
  EXPECT_NE(loaded->checksum, 0U);
}

TEST(Program, memory_without_a_program_is_refused) {
  const auto memory = make_memory();
  const auto loaded = load_config(*memory);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().message, "the memory holds no program");
}

TEST(Program, a_changed_byte_of_the_configuration_is_seen) {
  const auto memory = make_memory();
  ASSERT_TRUE(store_config(example(*memory), *memory).has_value());
  const auto place = memory->at(memory->blocks()[0].range.start, sizeof(ProgramConfig));
  for (std::size_t byte = 0; byte < sizeof(ProgramConfig); byte += 7) {
    place[byte] ^= std::byte{4};
    ASSERT_FALSE(load_config(*memory).has_value()) << "byte " << byte;
    place[byte] ^= std::byte{4};
  }
  EXPECT_TRUE(load_config(*memory).has_value());
}

TEST(Program, a_program_for_another_memory_is_refused) {
  const auto memory = make_memory();
  ASSERT_TRUE(store_config(example(*memory), *memory).has_value());
  const auto other = make_memory(64U << 20);
  std::memcpy(other->at(other->blocks()[0].range.start, sizeof(ProgramConfig)).data(),
              memory->at(memory->blocks()[0].range.start, sizeof(ProgramConfig)).data(), sizeof(ProgramConfig));
  const auto loaded = load_config(*other);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().message, "the program was made for a memory of 33554432 bytes; this one has 67108864");
}

struct Wrong {
  const char* name;
  void (*change)(ProgramConfig&);
};

class WrongConfig : public testing::TestWithParam<Wrong> {};

TEST_P(WrongConfig, is_refused) {
  const auto memory = make_memory();
  ProgramConfig config = example(*memory);
  ASSERT_TRUE(check_config(config).has_value());
  GetParam().change(config);
  const auto checked = check_config(config);
  ASSERT_FALSE(checked.has_value());
  EXPECT_EQ(checked.error().code, EINVAL);
  EXPECT_FALSE(store_config(config, *memory).has_value());
}

INSTANTIATE_TEST_SUITE_P(
    Program, WrongConfig,
    testing::Values(Wrong{"depth_0", [](ProgramConfig& c) { c.depth = 0; }},
                    Wrong{"depth_too_large", [](ProgramConfig& c) { c.depth = kMaxDepth + 1; }},
                    Wrong{"no_queue", [](ProgramConfig& c) { c.queues = 0; }},
                    Wrong{"too_many_disks", [](ProgramConfig& c) { c.disk_count = kMaxDisks + 1; }},
                    Wrong{"block_not_whole_pages", [](ProgramConfig& c) { c.block_size = 6000; }},
                    Wrong{"block_too_large", [](ProgramConfig& c) { c.block_size = 2 * kMaxBlockSize; }},
                    Wrong{"pages_beyond_memory", [](ProgramConfig& c) { c.memory_pages = 1ULL << 60; }},
                    Wrong{"no_extent", [](ProgramConfig& c) { c.disks[1].extent_count = 0; }},
                    Wrong{"too_many_extents", [](ProgramConfig& c) { c.disks[0].extent_count = kMaxExtents + 1; }},
                    Wrong{"overlapping_extents", [](ProgramConfig& c) { c.disks[0].extents[1].offset = 8192; }},
                    Wrong{"wrapping_extent", [](ProgramConfig& c) { c.disks[0].extents[1].size = ~4095ULL; }},
                    Wrong{"misaligned_extent", [](ProgramConfig& c) { c.disks[0].extents[0].offset = 512; }},
                    Wrong{"more_blocks_than_fit", [](ProgramConfig& c) { c.disks[0].blocks = 11; }}),
    [](const auto& parameter) { return parameter.param.name; });

TEST(Program, too_small_a_memory_says_what_is_missing) {
  const auto memory = make_memory(GuestMemory::kSmallest);
  ProgramConfig config = example(*memory);
  config.memory_pages = 600;
  const auto layout = lay_out(config, *memory);
  ASSERT_FALSE(layout.has_value());
  EXPECT_EQ(layout.error().code, ENOSPC);
  EXPECT_NE(layout.error().message.find("the guest's memory has no room"), std::string::npos) << layout.error().message;
}

}  // namespace
}  // namespace gangway::guest
