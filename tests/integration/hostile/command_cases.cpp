#include "integration/hostile/command_cases.h"

#include <array>

#include "integration/hostile/test_device.h"

namespace gangway::hostile {

std::vector<CommandCase> all_commands() {
  const Bytes eight = pattern(8);
  const std::array writes{SingleWrite{.offset = kScratch, .region = kRegisters, .count = 8, .data = 1},
                          SingleWrite{.offset = kScratch, .region = kRegisters, .count = 8, .data = 2}};
  const SetIrqs unassign{.flags = kIrqNone | kIrqTrigger, .count = 0};
  return {
      {"DMA_MAP", kDmaMap, dma_map(), 32},
      {"DMA_UNMAP", kDmaUnmap, dma_unmap(), 24},
      {"DEVICE_GET_INFO", kGetInfo, get_info(), 16},
      {"DEVICE_GET_REGION_INFO", kGetRegionInfo, get_region_info(kRegisters), 32},
      {"DEVICE_GET_REGION_IO_FDS", kGetRegionIoFds, get_region_io_fds(kRegisters), 16},
      {"DEVICE_GET_IRQ_INFO", kGetIrqInfo, get_irq_info(2), 16},
      {"DEVICE_SET_IRQS", kSetIrqs, set_irqs(unassign), 20},
      {"REGION_READ", kRegionRead, region_read(kRegisters, kScratch, 8), 16},
      {"REGION_WRITE", kRegionWrite, region_write(kRegisters, kScratch, eight), 24},
      {"REGION_WRITE_MULTI", kRegionWriteMulti, region_write_multi(2, writes), 56},
      {"DEVICE_FEATURE", kFeature, feature(kFeatureGet | kFeatureMigration), 8},
      {"DEVICE_RESET", kReset, {}, 0},
  };
}

std::vector<CommandCase> all_features() {
  const std::array ranges{LoggedRange{.iova = 0x10000, .length = 0x1000},
                          LoggedRange{.iova = 0x20000, .length = 0x1000}};
  return {
      {"SET MIG_DEVICE_STATE", kFeature, set_state(kStateRunning), 16},
      {"SET DMA_LOGGING_START", kFeature, logging_start(4096, ranges), 56},
      {"GET DMA_LOGGING_REPORT", kFeature, logging_report(0x10000, 0x1000, 4096), 32},
      {"SET DMA_LOGGING_STOP", kFeature, logging_stop(), 8},
      {"GET MIGRATION", kFeature, feature(kFeatureGet | kFeatureMigration), 8},
      {"GET MIG_DEVICE_STATE", kFeature, get_state(), 8},
      {"GET MIG_DATA_SIZE", kFeature, feature(kFeatureGet | kFeatureDataSize), 8},
      {"PROBE MIGRATION", kFeature, feature(kFeatureProbe | kFeatureGet | kFeatureMigration), 8},
  };
}

}  // namespace gangway::hostile
