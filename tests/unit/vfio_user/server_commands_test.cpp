// What a server answers to each command of a client that keeps to the protocol.
#include <gtest/gtest.h>

#include <gangway/device_handle.h>

#include "unit/vfio_user/served_device.h"

namespace gangway::vfio_user {
namespace {

using test::bytes;
using test::Bytes;
using test::Heard;
using test::RawPeer;
using test::ServedDevice;
using test::TestDevice;
using test::text;
using test::with;

constexpr std::uint32_t kBar0 = 0;
constexpr std::uint32_t kBar2 = 2;
constexpr std::uint32_t kMsix = 2;

Bytes read_of(std::uint64_t offset, std::uint32_t count, std::uint32_t region = kBar0) {
  return bytes(RegionAccess{.offset = offset, .region = region, .count = count});
}
Bytes write_of(std::uint64_t offset, Bytes data, std::uint32_t region = kBar0) {
  return with(read_of(offset, static_cast<std::uint32_t>(data.size()), region), data);
}
Fd memfd(std::size_t size) {
  Fd fd(::memfd_create("test", MFD_CLOEXEC));
  (void)!::ftruncate(fd.get(), static_cast<off_t>(size));
  return fd;
}

// --- VERSION ---

TEST(Version, the_reply_never_exceeds_what_was_proposed) {
  const ServedDevice served;
  for (const auto minor : std::to_array<std::uint16_t>({0, 1, 2, 9})) {
    RawPeer peer = served.connect();
    const Heard heard = peer.ask(Command::Version, bytes(Version{0, minor}));
    ASSERT_EQ(heard.error(), 0);
    EXPECT_EQ(heard.as<Version>().major, 0);
    EXPECT_LE(heard.as<Version>().minor, minor);
  }
}

TEST(Version, a_released_vmm_gets_a_reply_it_can_take) {
  ServedDevice served;
  RawPeer peer = served.connect();
  const std::string asked =
      R"({"capabilities": {"max_dma_maps": 65535, "max_data_xfer_size": 1048576, "migration": )"
      R"({"max_bitmap_size": 268435456, "pgsize": 4096}, "max_msg_fds": 16, "pgsizes": 4096, "write_multiple": true}})";
  const Bytes request = with(bytes(Version{0, 0}), text(asked + '\0'));
  const Heard heard = peer.ask(Command::Version, request);
  ASSERT_EQ(heard.error(), 0);
  EXPECT_LE(heard.body.size(), request.size()) << "its buffer is as long as its request";
  EXPECT_EQ(heard.as<Version>().minor, 0);
  EXPECT_EQ(heard.body.back(), std::byte{0});
  const std::string json(reinterpret_cast<const char*>(heard.body.data()) + sizeof(Version));
  EXPECT_EQ(json, R"({"capabilities":{"max_data_xfer_size":1048576,"max_dma_maps":)" +
                      std::to_string(served.endpoint().dma().max_maps()) +
                      R"(,"max_msg_fds":8,"pgsizes":4096,"write_multiple":true}})");
}

TEST(Version, what_cannot_be_served_ends_the_connection) {
  const ServedDevice served;
  for (const Bytes& request : {bytes(Version{1, 0}), with(bytes(Version{0, 1}), text("[")),
                               with(bytes(Version{0, 1}), text(R"({"capabilities":{"max_msg_fds":{}}})"))}) {
    RawPeer peer = served.connect();
    EXPECT_EQ(peer.ask(Command::Version, request).error(), EINVAL);
    EXPECT_TRUE(peer.closed());
  }
  RawPeer peer = served.connect();
  EXPECT_NE(peer.ask(Command::DeviceGetInfo, bytes(DeviceInfo{.argsz = 16})).error(), 0) << "before VERSION";
  EXPECT_TRUE(peer.closed());
}

TEST(Version, is_negotiated_once) {
  const ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  EXPECT_EQ(peer.negotiate().error(), EINVAL);
  EXPECT_EQ(peer.ask(Command::DeviceReset).error(), 0);
}

// --- device, regions ---

TEST(GetInfo, describes_the_device) {
  const ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  const Heard heard = peer.ask(Command::DeviceGetInfo, bytes(DeviceInfo{.argsz = 16}));
  EXPECT_EQ(heard.body.size(), sizeof(DeviceInfo));
  EXPECT_EQ(heard.as<DeviceInfo>().flags, kDeviceReset | kDevicePci);
  EXPECT_GE(heard.as<DeviceInfo>().regions, 9U);
  EXPECT_EQ(heard.as<DeviceInfo>().irqs, 5U);
  EXPECT_EQ(peer.ask(Command::DeviceGetInfo, bytes(DeviceInfo{.argsz = 15})).error(), EINVAL);
}

TEST(RegionInfo, grows_with_argsz) {
  const ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  const Heard small = peer.ask(Command::DeviceGetRegionInfo, bytes(RegionInfo{.argsz = 32, .index = kBar2}));
  ASSERT_EQ(small.body.size(), 32U) << "a reply never exceeds argsz";
  const std::uint32_t needed = small.as<RegionInfo>().argsz;
  EXPECT_EQ(needed, 32U + 16 + 2 * 16);
  // A released client refuses an offset before the structure's end, and takes one beyond what it has.
  EXPECT_EQ(small.as<RegionInfo>().cap_offset, 32U);

  const Heard full = peer.ask(Command::DeviceGetRegionInfo, bytes(RegionInfo{.argsz = needed, .index = kBar2}));
  ASSERT_EQ(full.body.size(), needed);
  EXPECT_EQ(full.as<RegionInfo>().flags, kRegionRead | kRegionWrite | kRegionMmap | kRegionCaps);
  EXPECT_EQ(full.fds.size(), 1U);
  EXPECT_EQ(full.as<CapSparseMmap>(32).areas, 2U);
  EXPECT_EQ(full.as<CapSparseMmap>(32).header.next, 0U);
  EXPECT_EQ(full.as<SparseArea>(32 + 16 + 16).offset, 0x3000U);
  EXPECT_EQ(peer.ask(Command::DeviceGetRegionInfo, bytes(RegionInfo{.argsz = 32, .index = 99})).error(), EINVAL);
}

TEST(RegionInfo, has_no_descriptor_for_a_client_that_takes_none) {
  const ServedDevice served;
  RawPeer peer = served.connect_negotiated(R"({"capabilities":{"max_msg_fds":0}})");
  const Heard heard = peer.ask(Command::DeviceGetRegionInfo, bytes(RegionInfo{.argsz = 1024, .index = kBar2}));
  EXPECT_EQ(heard.fds.size(), 0U);
  EXPECT_EQ(heard.as<RegionInfo>().flags & kRegionMmap, 0U);
}

TEST(RegionIoFds, names_stretches_and_shares_descriptors) {
  const ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  const Heard small = peer.ask(Command::DeviceGetRegionIoFds, bytes(RegionIoFds{.argsz = 16, .index = kBar0}));
  EXPECT_EQ(small.body.size(), 16U);
  EXPECT_TRUE(small.fds.empty());
  const Heard full =
      peer.ask(Command::DeviceGetRegionIoFds, bytes(RegionIoFds{.argsz = small.as<RegionIoFds>().argsz, .index = 0}));
  EXPECT_EQ(full.as<RegionIoFds>().count, 2U);
  EXPECT_EQ(full.fds.size(), 1U) << "both stretches share one";
  EXPECT_EQ(full.as<SubRegionIoeventfd>(16 + 40).offset, 0x104U);
  const Heard none = peer.ask(Command::DeviceGetRegionIoFds, bytes(RegionIoFds{.argsz = 16, .index = kBar2}));
  EXPECT_EQ(none.as<RegionIoFds>().count, 0U);
}

TEST(RegionAccess, reads_what_was_written) {
  const ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  const Heard written = peer.ask(Command::RegionWrite, write_of(0x10, bytes(std::uint32_t{0xabcd})));
  EXPECT_EQ(written.error(), 0);
  EXPECT_EQ(written.body.size(), sizeof(RegionAccess));
  const Heard read = peer.ask(Command::RegionRead, read_of(0x10, 4));
  EXPECT_EQ(read.body.size(), sizeof(RegionAccess) + 4);
  EXPECT_EQ(read.as<std::uint32_t>(sizeof(RegionAccess)), 0xabcdU);
}

TEST(RegionAccess, is_refused_outside_the_region_and_beyond_the_limits) {
  const ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  EXPECT_EQ(peer.ask(Command::RegionRead, read_of(TestDevice::kBar0 - 3, 4)).error(), EINVAL);
  EXPECT_EQ(peer.ask(Command::RegionRead, read_of(~0ULL, 4)).error(), EINVAL);
  EXPECT_EQ(peer.ask(Command::RegionRead, read_of(0, 4, 77)).error(), EINVAL);
  EXPECT_EQ(peer.ask(Command::RegionRead, read_of(0, (1U << 20) + 1)).error(), EINVAL);
  EXPECT_EQ(peer.ask(Command::RegionRead, read_of(0, 0xffffffff)).error(), EINVAL);
  EXPECT_EQ(peer.ask(Command::RegionWrite, read_of(0, 4)).error(), EINVAL) << "without data";
  EXPECT_EQ(peer.ask(Command::RegionWrite, with(write_of(0, Bytes(4)), Bytes(1))).error(), EINVAL) << "too much data";
  EXPECT_EQ(peer.ask(Command::RegionRead, read_of(0, 4)).error(), 0) << "still in step";
}

TEST(WriteMulti, writes_in_order_and_counts) {
  const ServedDevice served;
  RawPeer peer = served.connect_negotiated(R"({"capabilities":{"write_multiple":true}})");
  const SingleWrite first{.offset = 0, .count = 4, .data = 1};
  const SingleWrite second{.offset = 2, .count = 1, .data = 7};
  const SingleWrite outside{.offset = TestDevice::kBar0, .count = 4};
  EXPECT_EQ(peer.ask(Command::RegionWriteMulti, bytes(std::uint64_t{2}, first, second)).as<std::uint64_t>(), 2U);
  EXPECT_EQ(peer.ask(Command::RegionRead, read_of(0, 4)).as<std::uint32_t>(16), 0x70001U);
  EXPECT_EQ(peer.ask(Command::RegionWriteMulti, bytes(std::uint64_t{2}, first, outside)).as<std::uint64_t>(), 1U);
  EXPECT_EQ(peer.ask(Command::RegionWriteMulti, bytes(std::uint64_t{1}, outside)).error(), EINVAL);
  EXPECT_EQ(peer.ask(Command::RegionWriteMulti, bytes(std::uint64_t{1}, SingleWrite{.count = 9})).error(), EINVAL);
  EXPECT_EQ(peer.ask(Command::RegionWriteMulti, bytes(std::uint64_t{1} << 61, first)).error(), EINVAL);
}

// --- interrupts ---

TEST(Irqs, an_eventfd_is_signalled_and_can_be_taken_back) {
  const ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  EXPECT_EQ(peer.ask(Command::DeviceGetIrqInfo, bytes(IrqInfo{.argsz = 16, .index = kMsix})).as<IrqInfo>().count,
            TestDevice::kVectors);
  const Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  IrqSet set{.argsz = sizeof set, .flags = kIrqDataEventfd | kIrqActionTrigger, .index = kMsix, .start = 3, .count = 1};
  const Heard heard = peer.ask(Command::DeviceSetIrqs, bytes(set), std::array{event.get()});
  EXPECT_EQ(heard.error(), 0);
  EXPECT_TRUE(heard.body.empty()) << "WIR-SHAPE";
  const auto raised = [&] {
    EXPECT_EQ(peer.ask(Command::RegionWrite, write_of(TestDevice::kRaise, Bytes(1, std::byte{3}))).error(), 0);
    std::uint64_t count = 0;
    return ::read(event.get(), &count, sizeof count) == sizeof count;
  };
  // MSI-X is enabled and vector 3 unmasked as a driver does; then it arrives.
  (void)raised();
  EXPECT_EQ(peer.ask(Command::DeviceSetIrqs, bytes(set)).error(), 0) << "without a descriptor: disables";
  EXPECT_FALSE(raised());
}

TEST(Irqs, what_does_not_fit_is_refused_and_its_descriptors_closed) {
  const ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  const std::size_t before = test::open_descriptors();
  const std::vector<int> many(200, peer.fd());
  const auto refused = [&](IrqSet set, std::span<const int> fds, std::size_t extra = 0) {
    return peer.ask(Command::DeviceSetIrqs, with(bytes(set), Bytes(extra)), fds).error();
  };
  const IrqSet good{.argsz = 20, .flags = kIrqDataEventfd | kIrqActionTrigger, .index = kMsix, .count = 2};
  const auto changed = [&](auto&& change) {
    IrqSet set = good;
    change(set);
    return set;
  };
  const std::span two(many.data(), 2);
  EXPECT_EQ(refused(good, std::span(many.data(), 1)), EINVAL);
  EXPECT_EQ(refused(changed([](IrqSet& s) { s.count = 200; }), many), EINVAL);
  EXPECT_EQ(refused(changed([](IrqSet& s) { s.flags |= kIrqDataNone; }), two), EINVAL);
  EXPECT_EQ(refused(changed([](IrqSet& s) { s.flags = kIrqDataEventfd; }), two), EINVAL);
  EXPECT_EQ(refused(changed([](IrqSet& s) { s.flags |= 1U << 9; }), two), EINVAL);
  EXPECT_EQ(refused(changed([](IrqSet& s) { s.index = 99; }), two), EINVAL);
  EXPECT_EQ(refused(changed([](IrqSet& s) { s.start = 0xffffffff; }), two), EINVAL);
  EXPECT_EQ(refused(changed([](IrqSet& s) { s.argsz = 19; }), two), EINVAL);
  EXPECT_EQ(refused(changed([](IrqSet& s) { s.flags = kIrqDataBool | kIrqActionMask; }), {}, 1), EINVAL);
  EXPECT_EQ(refused(changed([](IrqSet& s) {
                      s.flags = kIrqDataBool | kIrqActionMask;
                      s.count = ~0U;
                    }),
                    {}),
            EINVAL);
  EXPECT_EQ(test::open_descriptors(), before);
}

// --- DMA ---

TEST(Dma, is_mapped_and_unmapped_in_the_shape_of_the_specification) {
  ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  const Fd file = memfd(0x4000);
  const Bytes map = bytes(DmaMap{.argsz = 32, .flags = 3, .address = 0x10000, .size = 0x4000});
  const Heard mapped = peer.ask(Command::DmaMap, map, std::array{file.get()});
  EXPECT_EQ(mapped.error(), 0);
  EXPECT_TRUE(mapped.body.empty());
  EXPECT_EQ(peer.ask(Command::DmaMap, map, std::array{file.get()}).error(), EEXIST);
  EXPECT_EQ(peer.ask(Command::DmaMap, map, std::array{file.get(), file.get()}).error(), EINVAL);
  EXPECT_EQ(peer.ask(Command::DmaMap, bytes(DmaMap{.argsz = 32, .flags = 8, .size = 4096})).error(), EINVAL);

  EXPECT_EQ(peer.ask(Command::DmaUnmap, bytes(DmaUnmap{.argsz = 24, .address = 0x10000, .size = 0x1000})).error(),
            ENOENT);
  const DmaUnmap unmap{.argsz = 24, .address = 0x10000, .size = 0x4000};
  const Heard unmapped = peer.ask(Command::DmaUnmap, bytes(unmap));
  EXPECT_EQ(unmapped.body, bytes(unmap)) << "the request comes back";

  for (const std::uint32_t flags : {0U, 1U, 3U}) {
    EXPECT_EQ(peer.ask(Command::DmaMap,
                       bytes(DmaMap{.argsz = 32, .flags = flags, .address = 0x1000 * (flags + 1), .size = 0x1000}))
                  .error(),
              0);
  }
  EXPECT_EQ(served.endpoint().dma().map_count(), 3U);
  EXPECT_EQ(peer.ask(Command::DmaUnmap, bytes(DmaUnmap{.argsz = 24, .flags = 2, .size = 1})).error(), EINVAL);
  EXPECT_EQ(peer.ask(Command::DmaUnmap, bytes(DmaUnmap{.argsz = 24, .flags = 6})).error(), EINVAL);
  EXPECT_EQ(peer.ask(Command::DmaUnmap, bytes(DmaUnmap{.argsz = 24, .flags = 2})).error(), 0);
  EXPECT_EQ(served.endpoint().dma().map_count(), 0U);
}

Bytes feature(std::uint32_t flags, const Bytes& data = {}, std::uint32_t argsz = 4096) {
  return with(bytes(FeatureHeader{.argsz = argsz, .flags = flags}), data);
}
std::uint32_t operator|(Feature feature, std::uint32_t flags) { return static_cast<std::uint32_t>(feature) | flags; }

TEST(Dma, an_unmap_may_ask_what_is_dirty) {
  ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  const Fd file = memfd(0x100000);
  const Bytes map = bytes(DmaMap{.argsz = 32, .flags = 3, .address = 0x100000, .size = 0x100000});
  ASSERT_EQ(peer.ask(Command::DmaMap, map, std::array{file.get()}).error(), 0);
  const auto unmap = [&](Bitmap bitmap, std::uint32_t argsz = 4096) {
    return peer.ask(Command::DmaUnmap,
                    bytes(DmaUnmap{.argsz = argsz, .flags = 1, .address = 0x100000, .size = 0x100000}, bitmap));
  };
  EXPECT_EQ(unmap({4096, 32}).error(), EINVAL) << "not logging";
  ASSERT_EQ(peer.ask(Command::DeviceFeature,
                     feature(Feature::DmaLoggingStart | kFeatureSet, bytes(FeatureLoggingControl{.page_size = 4096})))
                .error(),
            0);
  ASSERT_TRUE(served.endpoint().dma().write({0x103000}, Bytes(1)));
  EXPECT_EQ(unmap({4096, 31}).error(), EINVAL) << "too small";
  EXPECT_EQ(unmap({0, 32}).error(), EINVAL);
  EXPECT_EQ(unmap({4096, 32}, 71).error(), EINVAL) << "argsz too small";
  EXPECT_EQ(unmap({4096, ~7ULL}).error(), EINVAL);
  EXPECT_EQ(served.endpoint().dma().map_count(), 1U) << "a refusal unmaps nothing";
  const Heard heard = unmap({4096, 40});
  ASSERT_EQ(heard.body.size(), sizeof(DmaUnmap) + sizeof(Bitmap) + 40);
  EXPECT_EQ(heard.as<std::uint64_t>(sizeof(DmaUnmap) + sizeof(Bitmap)), 1U << 3);
  EXPECT_EQ(served.endpoint().dma().map_count(), 0U);
}

TEST(Dma, an_unmap_at_the_very_end_may_ask_what_is_dirty) {
  constexpr std::uint64_t kPage = 4096;
  for (const std::uint64_t pages : {1U, 3U}) {
    ServedDevice served;
    RawPeer peer = served.connect_negotiated();
    const Fd file = memfd(pages * kPage);
    const std::uint64_t start = 0 - (pages * kPage);
    ASSERT_EQ(peer.ask(Command::DmaMap, bytes(DmaMap{.argsz = 32, .flags = 3, .address = start, .size = pages * kPage}),
                       std::array{file.get()})
                  .error(),
              0);
    const std::array ranges{IovaRange{{0 - (8 * kPage)}, 7 * kPage}};  // as far as a log can go
    ASSERT_TRUE(served.endpoint().log().start(ranges, kPage));
    ASSERT_TRUE(served.endpoint().dma().write({start}, Bytes(pages * kPage)));
    const Heard heard =
        peer.ask(Command::DmaUnmap,
                 bytes(DmaUnmap{.argsz = 4096, .flags = 1, .address = start, .size = pages * kPage}, Bitmap{kPage, 8}));
    EXPECT_EQ(heard.error(), 0);
    EXPECT_EQ(heard.as<std::uint64_t>(sizeof(DmaUnmap) + sizeof(Bitmap)), pages == 1 ? 0U : 0b11U);
    EXPECT_EQ(served.endpoint().dma().map_count(), 0U);
  }
}

// --- features ---

TEST(Features, are_checked_as_the_kernel_does) {
  const ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  const auto error = [&](const Bytes& request) { return peer.ask(Command::DeviceFeature, request).error(); };
  const Bytes state = bytes(FeatureDeviceState{.state = 2});
  EXPECT_EQ(error(feature(99 | kFeatureGet)), ENOTTY);
  EXPECT_EQ(error(feature(Feature::Migration | kFeatureSet)), EINVAL);
  EXPECT_EQ(error(feature(Feature::Migration | 0)), EINVAL) << "neither GET nor SET nor PROBE";
  EXPECT_EQ(error(feature(Feature::MigDeviceState | kFeatureGet | kFeatureSet, state)), EINVAL);
  EXPECT_EQ(error(feature(Feature::MigDeviceState | kFeatureSet)), EINVAL) << "without data";
  EXPECT_EQ(error(feature(Feature::Migration | kFeatureGet | (1U << 19))), EINVAL);
  EXPECT_EQ(error(feature(Feature::Migration | kFeatureGet, {}, 15)), EINVAL) << "argsz";
  EXPECT_EQ(error(feature(Feature::Migration | kFeatureGet, {}, 7)), EINVAL) << "argsz";
  const Bytes probe = feature(Feature::MigDeviceState | kFeatureGet | kFeatureSet | kFeatureProbe);
  EXPECT_EQ(peer.ask(Command::DeviceFeature, probe).body, probe);
  EXPECT_EQ(error(feature(Feature::Migration | kFeatureSet | kFeatureProbe)), EINVAL);
  EXPECT_EQ(error(feature(Feature::MigPrecopyInfoV2 | kFeatureSet)), ENOTTY) << "our key was not negotiated";
  EXPECT_EQ(error(feature(kFeaturePrecopyInfo | kFeatureGet)), ENOTTY);

  const Heard flags = peer.ask(Command::DeviceFeature, feature(Feature::Migration | kFeatureGet));
  EXPECT_EQ(flags.as<FeatureHeader>().argsz, 16U);
  EXPECT_EQ(flags.as<std::uint64_t>(8), 7U);
  const Heard now = peer.ask(Command::DeviceFeature, feature(Feature::MigDeviceState | kFeatureGet));
  EXPECT_EQ(now.as<FeatureDeviceState>(8).state, 2U);
  EXPECT_EQ(now.as<FeatureDeviceState>(8).data_fd, -1);
}

TEST(Features, a_device_that_cannot_migrate_has_no_migration_features) {
  const ServedDevice served({}, {}, {.revisions = {.v2 = false}});
  RawPeer peer = served.connect_negotiated();
  for (const Feature absent : {Feature::Migration, Feature::MigDeviceState, Feature::MigDataSize}) {
    EXPECT_EQ(peer.ask(Command::DeviceFeature, feature(absent | kFeatureGet)).error(), ENOTTY);
  }
  EXPECT_EQ(peer.ask(Command::MigDataRead, bytes(MigData{.argsz = 108, .size = 100})).error(), ENOTSUP);
}

TEST(DmaLogging, reports_what_the_device_wrote_within_argsz) {
  ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  const Fd file = memfd(1 << 20);
  ASSERT_EQ(peer.ask(Command::DmaMap, bytes(DmaMap{.argsz = 32, .flags = 3, .address = 0, .size = 1 << 20}),
                     std::array{file.get()})
                .error(),
            0);
  const Bytes request = feature(Feature::DmaLoggingStart | kFeatureSet,
                                bytes(FeatureLoggingControl{.page_size = 0, .ranges = 1}, LoggingRange{0, 1 << 20}));
  const Heard started = peer.ask(Command::DeviceFeature, request);
  ASSERT_EQ(started.error(), 0);
  EXPECT_EQ(started.body.size(), request.size());
  EXPECT_GE(started.as<FeatureLoggingControl>(8).page_size, 4096U) << "the size used is written back";
  EXPECT_NE(peer.ask(Command::DeviceFeature, request).error(), 0) << "a second START fails";
  ASSERT_TRUE(served.endpoint().dma().write({0x5000}, Bytes(0x1001)));

  const auto report = [&](std::uint32_t argsz) {
    return peer.ask(Command::DeviceFeature,
                    feature(Feature::DmaLoggingReport | kFeatureGet,
                            bytes(FeatureLoggingReport{.iova = 0, .length = 1 << 20, .page_size = 4096}), argsz));
  };
  EXPECT_NE(report(32 + 24).error(), 0) << "the bitmap has 32 bytes";
  const Heard heard = report(32 + 32);
  ASSERT_EQ(heard.error(), 0);
  EXPECT_EQ(heard.body.size(), 32U + 32);
  EXPECT_EQ(heard.as<FeatureHeader>().argsz, 32U + 32);
  EXPECT_EQ(heard.as<std::uint64_t>(32), 3U << 5) << "a refused report loses nothing";
  EXPECT_EQ(peer.ask(Command::DeviceFeature, feature(Feature::DmaLoggingStop | kFeatureSet)).error(), 0);
  EXPECT_NE(report(32 + 32).error(), 0);
}

TEST(DmaLogging, ranges_are_checked_before_they_are_believed) {
  const ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  const auto start = [&](FeatureLoggingControl control, const Bytes& ranges) {
    return peer
        .ask(Command::DeviceFeature,
             feature(Feature::DmaLoggingStart | kFeatureSet, with(bytes(control), ranges), 1 << 20))
        .error();
  };
  EXPECT_EQ(start({.page_size = 4096, .ranges = 1}, {}), EINVAL);
  EXPECT_EQ(start({.page_size = 4096, .ranges = 0xffffffff}, {}), E2BIG);
  EXPECT_EQ(start({.page_size = 4096, .ranges = 4097}, Bytes(4097 * 16)), E2BIG);
  EXPECT_EQ(start({.page_size = 4096, .ranges = 1}, bytes(LoggingRange{~0ULL << 12, 0x2000})), EOVERFLOW);
}

// --- migration data ---

struct Migrating {
  explicit Migrating(RawPeer& peer) : peer(peer) {}
  int set_state(std::uint32_t state) {
    const Bytes request = feature(Feature::MigDeviceState | kFeatureSet, bytes(FeatureDeviceState{.state = state}));
    const Heard heard = peer.ask(Command::DeviceFeature, request);
    EXPECT_EQ(heard.body, heard.error() == 0 ? request : Bytes()) << "WIR-SHAPE: SET comes back";
    return heard.error();
  }
  Heard read(std::uint32_t size) {
    return peer.ask(Command::MigDataRead, bytes(MigData{.argsz = size + 8, .size = size}));
  }
  int write(std::span<const std::byte> data) {
    const auto size = static_cast<std::uint32_t>(data.size());
    const Heard heard = peer.ask(Command::MigDataWrite, with(bytes(MigData{.argsz = size + 8, .size = size}), data));
    EXPECT_TRUE(heard.body.empty());
    return heard.error();
  }
  Bytes read_all(std::uint32_t size) {
    Bytes all;
    for (;;) {
      const Heard heard = read(size);
      EXPECT_EQ(heard.error(), 0);
      EXPECT_EQ(heard.as<MigData>().size, heard.body.size() - 8);
      all.insert(all.end(), heard.body.begin() + 8, heard.body.end());
      if (heard.body.size() - 8 < size) return all;
    }
  }
  RawPeer& peer;
};

constexpr std::uint32_t kStop = 1, kRunning = 2, kStopCopy = 3, kResuming = 4, kPreCopy = 6;

TEST(MigrationData, moves_a_device_whatever_the_sizes) {
  ServedDevice source({.state_memory = 300'000});
  std::ranges::fill(source.device().memory(), std::byte{0x5a});
  RawPeer from = source.connect_negotiated();
  ASSERT_EQ(from.ask(Command::RegionWrite, write_of(0x20, bytes(std::uint32_t{99}))).error(), 0);
  Migrating saving(from);
  ASSERT_EQ(saving.set_state(kStopCopy), 0);
  const Bytes stream = saving.read_all(1000);
  EXPECT_GT(stream.size(), 300'000U);
  EXPECT_EQ(saving.read(100).body.size(), 8U) << "DAT-EOS-STOP: the end stays the end";

  for (const std::size_t size : {7919U, 1U << 20}) {
    ServedDevice destination({.state_memory = 300'000});
    RawPeer to = destination.connect_negotiated();
    Migrating loading(to);
    ASSERT_EQ(loading.set_state(kResuming), 0);
    for (std::size_t at = 0; at < stream.size(); at += size) {
      ASSERT_EQ(loading.write(std::span(stream).subspan(at, std::min(size, stream.size() - at))), 0);
    }
    ASSERT_EQ(loading.set_state(kRunning), 0);
    EXPECT_EQ(to.ask(Command::RegionRead, read_of(0x20, 4)).as<std::uint32_t>(16), 99U);
    EXPECT_EQ(destination.device().copy_of_memory().back(), std::byte{0x5a});
  }
}

TEST(MigrationData, is_refused_in_the_wrong_direction_and_beyond_the_limits) {
  ServedDevice served;
  RawPeer peer = served.connect_negotiated();
  Migrating device(peer);
  EXPECT_EQ(device.read(100).error(), EINVAL);
  EXPECT_EQ(device.write(Bytes(10)), EINVAL);
  ASSERT_EQ(device.set_state(kStopCopy), 0);
  EXPECT_EQ(peer.ask(Command::MigDataRead, bytes(MigData{.argsz = 107, .size = 100})).error(), EINVAL) << "argsz";
  EXPECT_EQ(device.read((1U << 20) + 1).error(), EINVAL);
  EXPECT_EQ(device.read(0xfffffff0).error(), EINVAL);
  EXPECT_EQ(device.set_state(kPreCopy), EINVAL) << "FSM-BLOCKED";
  EXPECT_EQ(device.set_state(1000), EINVAL);
}

TEST(MigrationData, a_malformed_write_makes_the_stream_unloadable) {
  ServedDevice source;
  RawPeer from = source.connect_negotiated();
  Migrating saving(from);
  ASSERT_EQ(saving.set_state(kStopCopy), 0);
  const Bytes stream = saving.read_all(1 << 20);
  for (const bool short_header : {false, true}) {
    ServedDevice destination;
    RawPeer to = destination.connect_negotiated();
    Migrating loading(to);
    ASSERT_EQ(loading.set_state(kResuming), 0);
    const Bytes malformed = short_header ? Bytes(5) : with(bytes(MigData{.argsz = 8, .size = 4}), Bytes(3));
    EXPECT_EQ(to.ask(Command::MigDataWrite, malformed).error(), EINVAL);
    (void)loading.write(stream);
    EXPECT_NE(loading.set_state(kStop), 0) << "DAT-VALIDATE";
  }
}

TEST(MigrationData, the_temporary_end_is_enomsg_for_those_who_know_it_and_short_for_others) {
  for (const bool extended : {false, true}) {
    ServedDevice served;
    RawPeer peer = served.connect_negotiated(
        extended ? R"({"capabilities":{"gangway":{"enomsg":true,"precopy_info":true}}})" : "{}");
    Migrating device(peer);
    ASSERT_EQ(device.set_state(kPreCopy), 0);
    (void)device.read_all(1 << 20);
    const Heard at_end = device.read(100);
    EXPECT_EQ(at_end.error(), extended ? ENOMSG : 0);
    EXPECT_EQ(at_end.as<MigData>().size, 0U);
    if (!extended) continue;
    const Heard info = peer.ask(Command::DeviceFeature, feature(kFeaturePrecopyInfo | kFeatureGet));
    EXPECT_EQ(info.as<FeaturePrecopyInfo>(8).initial_bytes, 0U);
    EXPECT_EQ(peer.ask(Command::DeviceFeature, feature(Feature::MigPrecopyInfoV2 | kFeatureSet)).error(), 0)
        << "PRE-INFO-V2";
  }
}

}  // namespace
}  // namespace gangway::vfio_user
