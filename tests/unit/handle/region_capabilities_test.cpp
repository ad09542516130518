#include "handle/region_capabilities.h"

#include <gmock/gmock.h>

#include <cstddef>
#include <cstring>
#include <vector>

namespace gangway::vfio {
namespace {

using testing::HasSubstr;

using Bytes = std::vector<std::byte>;

// A region's description: capabilities are put one behind the other and chained.
class Description {
 public:
  explicit Description(std::uint64_t size = 0x10000)
      : info_{.flags = kRegionRead | kRegionMmap, .index = 2, .size = size} {}

  template <class T>
  Description& with(T capability) {
    if (info_.cap_offset == 0) {
      info_.flags |= kRegionCaps;
      info_.cap_offset = sizeof info_;
    } else {
      const auto next = static_cast<std::uint32_t>(sizeof info_ + bytes_.size());
      std::memcpy(bytes_.data() + last_ + offsetof(CapHeader, next), &next, sizeof next);
    }
    last_ = bytes_.size();
    return and_then(capability);
  }
  // More bytes of the last one.
  template <class T>
  Description& and_then(T more) {
    const auto* const begin = reinterpret_cast<const std::byte*>(&more);
    bytes_.insert(bytes_.end(), begin, begin + sizeof more);
    return *this;
  }
  Description& beginning_at(std::uint32_t offset) {
    info_.flags |= kRegionCaps;
    info_.cap_offset = offset;
    return *this;
  }
  [[nodiscard]] Result<DeviceHandle::Region> read() const {
    return to_region(info_, bytes_, std::make_shared<const Fd>());
  }

 private:
  RegionInfo info_;
  Bytes bytes_;
  std::size_t last_ = 0;
};

TEST(RegionCapabilities, a_chain_is_followed_in_any_order) {
  const auto region = Description()
                          .with(CapType{.type = 3, .subtype = 1})
                          .with(CapHeader{.id = 77})
                          .with(CapSparseMmap{.areas = 2})
                          .and_then(SparseArea{0x1000, 0x2000})
                          .and_then(SparseArea{0x8000, 0x8000})
                          .read();
  ASSERT_TRUE(region) << region.error().message;
  EXPECT_EQ(region->type, 3U);
  EXPECT_EQ(region->subtype, 1U);
  ASSERT_EQ(region->areas.size(), 2U);
  EXPECT_EQ(region->areas[1].offset, 0x8000U);
  EXPECT_EQ(region->areas[1].size, 0x8000U);
  EXPECT_TRUE(region->mmap);
}

TEST(RegionCapabilities, a_region_without_any_has_none) {
  const auto region = Description().read();
  ASSERT_TRUE(region);
  EXPECT_FALSE(region->type);
  EXPECT_TRUE(region->areas.empty());
}

TEST(RegionCapabilities, a_chain_that_leaves_its_bytes_or_goes_back_is_refused) {
  const Description wrong[] = {
      Description().beginning_at(8),                                // into the structure before it
      Description().beginning_at(sizeof(RegionInfo)),               // behind the last byte
      Description().beginning_at(0xffffffff),                       // far away
      Description().with(CapHeader{.id = 77, .next = 32}),          // to itself
      Description().with(CapHeader{.id = 77, .next = 0xfffffff0}),  // far away
      Description().with(CapHeader{.id = kCapType}),                // too short for its kind
      Description().with(CapHeader{.id = kCapSparseMmap}),
  };
  for (const Description& description : wrong) {
    const auto region = description.read();
    ASSERT_FALSE(region);
    EXPECT_EQ(region.error().code, EPROTO);
    EXPECT_THAT(region.error().message, HasSubstr("region 2: malformed capability"));
  }
}

TEST(RegionCapabilities, a_count_of_areas_beyond_the_bytes_is_refused) {
  for (const std::uint32_t count : {2U, 0x10000000U, 0xffffffffU}) {
    const auto region = Description().with(CapSparseMmap{.areas = count}).and_then(SparseArea{0x1000, 0x1000}).read();
    ASSERT_FALSE(region);
    EXPECT_EQ(region.error().code, EPROTO);
  }
}

TEST(RegionCapabilities, an_area_beyond_its_region_is_refused) {
  for (const SparseArea area : {SparseArea{0x10000, 1}, SparseArea{0xf000, 0x1001}, SparseArea{0x1000, ~0ULL}}) {
    EXPECT_FALSE(Description().with(CapSparseMmap{.areas = 1}).and_then(area).read());
  }
}

}  // namespace
}  // namespace gangway::vfio
