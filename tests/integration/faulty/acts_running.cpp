// Acts on a stopped device, P2P, the DMA log, and what a client leaves behind.
#include <array>
#include <filesystem>

#include "integration/faulty/acts.h"

namespace gangway::faulty {
namespace {

using enum DeviceState;

constexpr RegionIndex kConfig = RegionIndex::Config;
constexpr std::uint64_t kVendor = 0x00;
constexpr std::uint64_t kCommand = 0x04;
constexpr std::uint16_t kMemoryAndMaster = 0x6;

void job_stands_still_in(Bench& bench, DeviceState state) {
  bench.start_job(0, 0);
  bench.await_pieces(1);
  bench.go(state);
  right(!bench.memory_moves(), "the device wrote memory");
}

void start_refused(Bench& bench, std::span<const IovaRange> ranges) {
  refused(bench.device().dma_logging_start(ranges, Bench::kPage), "START");
}

std::ptrdiff_t open_descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
}

IovaRange pages(std::uint64_t first, std::uint64_t count) {
  return {{Bench::kBase + first * Bench::kPage}, count * Bench::kPage};
}

}  // namespace

Acts running_acts() {
  return {
      // STP-*, P2P-*
      {"dma_in_stop", [](Bench& b) { job_stands_still_in(b, Stop); }},
      {"dma_in_p2p", [](Bench& b) { job_stands_still_in(b, RunningP2p); }},
      {"p2p_leaves_dma_outstanding", [](Bench& b) { job_stands_still_in(b, RunningP2p); }},
      {"interrupt_in_stop",
       [](Bench& b) {
         b.connect_interrupts();
         b.go(Stop);
         right(!b.interrupted(kPieceVector) && !b.interrupted(kEndVector), "an interrupt in STOP");
       }},
      {"registers_move_in_stop",
       [](Bench& b) {
         b.go(Stop);
         const std::uint64_t done = b.get64(kDmaDone);
         right(b.get64(kDmaDone) == done, "a count moved in STOP");
       }},
      {"config_dead_in_stop",
       [](Bench& b) {
         b.go(Stop);
         right(b.get<std::uint16_t>(kConfig, kVendor) == kIdentity.vendor, "config space does not answer");
       }},
      {"config_writes_refused_in_stop",
       [](Bench& b) {
         b.go(Stop);
         b.set(kConfig, kCommand, kMemoryAndMaster);
       }},
      {"load_overwrites_config",
       [](Bench& b) {
         const Bytes stream = b.save();
         b.go(Resuming);
         b.set(kConfig, kCommand, kMemoryAndMaster);
         b.write(stream);
         b.go(Stop);
         right(b.get<std::uint16_t>(kConfig, kCommand) == kMemoryAndMaster, "the load changed config space");
       }},
      {"interrupt_setup_lost_in_stop",
       [](Bench& b) {
         b.connect_interrupts();
         b.go(Stop);
         b.go(Running);
         b.set32(kTrigger, kPieceVector);
         right(b.interrupted(kPieceVector), "no interrupt after STOP");
       }},
      {"access_leaves_stop",
       [](Bench& b) {
         b.go(Stop);
         const std::array<std::byte, 4> zero{};
         std::ignore = b.device().write(to_number(kRegisters), kStatus, zero);
         right(b.is_in(Stop), "a write started the device");
       }},
      {"p2p_accesses_dead",
       [](Bench& b) {
         b.go(RunningP2p);
         right(b.get32(kIdent) == kIdentValue, "an access is not served");
       }},
      // LOG-*
      {"second_log_start_accepted",
       [](Bench& b) {
         b.log_start();
         start_refused(b, std::array{Bench::kRange});
       }},
      {"misaligned_range_accepted",
       [](Bench& b) { start_refused(b, std::array{IovaRange{{Bench::kBase + 512}, Bench::kPage}}); }},
      {"overlapping_ranges_accepted", [](Bench& b) { start_refused(b, std::array{pages(0, 4), pages(3, 4)}); }},
      {"report_without_start_accepted",
       [](Bench& b) {
         std::uint64_t bitmap = 0;
         refused(b.device().dma_logging_report(Bench::kRange, Bench::kPage, std::span(&bitmap, 1)), "REPORT");
       }},
      {"odd_report_page_size_accepted",
       [](Bench& b) {
         b.log_start();
         std::uint64_t bitmap = 0;
         refused(b.device().dma_logging_report(Bench::kRange, 3 * Bench::kPage, std::span(&bitmap, 1)), "REPORT");
       }},
      {"report_ignores_page_size",
       [](Bench& b) {
         b.log_start();
         b.run_job(8, 1);
         right(b.log_report(Bench::kRange, 8 * Bench::kPage) == 0b10, "another page is dirty than was written");
       }},
      {"sub_range_report_clears_all",
       [](Bench& b) {
         b.log_start();
         b.run_job(0, 8);
         right(b.log_report(pages(0, 4)) == 0xf, "a part reports another thing than was written");
         right(b.log_report(pages(4, 4)) == 0xf, "what was not reported is lost");
       }},
      {"report_never_clears",
       [](Bench& b) {
         b.log_start();
         b.run_job(0, 8);
         right(b.log_report() == 0xff, "another thing is reported than was written");
         right(b.log_report() == 0, "reported twice");
       }},
      {"report_misses_last_page",
       [](Bench& b) {
         b.log_start();
         b.run_job(Bench::kPages - 1, 1);
         right(b.log_report() == std::uint64_t{1} << (Bench::kPages - 1), "the last page is not reported");
       }},
      {"report_loses_concurrent_pages",
       [](Bench& b) {
         constexpr std::uint32_t kPaceUs = 500;
         b.log_start();
         b.start_job(0, Bench::kPages, kPaceUs);
         std::uint64_t seen = 0;
         while (b.get32(kStatus) == kStatusBusy) seen |= b.log_report();
         seen |= b.log_report();
         right(~seen == 0, "pages are lost");
       }},
      {"report_all_dirty",
       [](Bench& b) {
         b.log_start();
         b.run_job(0, 1);
         right(b.log_report() == 1, "pages are reported that were not written");
       }},
      {"log_lost_on_unmap",
       [](Bench& b) {
         b.log_start();
         b.run_job(0, 1);
         b.unmap();
         right(b.log_report() == 1, "a page is lost on unmap");
       }},
      {"log_off_in_stop",
       [](Bench& b) {
         b.log_start();
         b.run_job(0, 1);
         b.go(Stop);
         right(b.log_report() == 1, "a page is lost on STOP");
       }},
      // WIR-*
      {"bitmap_reply_too_long",
       [](Bench& b) {
         b.log_start();
         right(b.log_report() == 0, "something is dirty");
       }},
      {"stream_reply_too_long",
       [](Bench& b) {
         b.go(StopCopy);
         right(b.read_once().size == Bench::kPage, "another size than was asked for");
       }},
      {"descriptor_leaked",
       [](Bench& b) {
         const auto cycle = [&] {
           b.go(StopCopy);
           b.go(Running);
         };
         cycle();
         const std::ptrdiff_t before = open_descriptors();
         for (int i = 0; i < 10; ++i) cycle();
         right(open_descriptors() == before, "descriptors are left open");
       }},
      {"state_left_by_vanished_client",
       [](Bench& b) {
         b.go(Stop);
         b.reopen();
         right(b.is_in(Running), "not RUNNING for the next client");
       }},
      {"mappings_left_by_vanished_client",
       [](Bench& b) {
         b.map();
         b.reopen();
         b.map();
       }},
      {"log_left_by_vanished_client",
       [](Bench& b) {
         b.log_start();
         b.reopen();
         b.log_start();
       }},
      {"interrupts_left_by_vanished_client",
       [](Bench& b) {
         b.connect_interrupts();
         b.reopen();
         b.set32(kTrigger, kPieceVector);
         right(!b.interrupted(kPieceVector), "the eventfd of a client that is gone is signalled");
       }},
  };
}

}  // namespace gangway::faulty
