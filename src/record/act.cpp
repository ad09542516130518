#include "record/act.h"

#include <array>
#include <string_view>

namespace gangway::record {
namespace {

// In the order of Doing.
constexpr std::array<std::string_view, std::variant_size_v<Doing>> kNames{"open",           "close",
                                                                          "close_data",     "negotiate",
                                                                          "get_info",       "get_region",
                                                                          "get_irq",        "get_region_fds",
                                                                          "read_region",    "write_region",
                                                                          "write_regions",  "map_region",
                                                                          "set_irqs",       "map_dma",
                                                                          "unmap_dma",      "device_reads",
                                                                          "device_writes",  "reset",
                                                                          "probe_feature",  "get_feature",
                                                                          "set_feature",    "get_migration_flags",
                                                                          "get_state",      "set_state",
                                                                          "get_data_size",  "get_precopy_info",
                                                                          "start_logging",  "stop_logging",
                                                                          "report_logging", "read_data",
                                                                          "write_data",     "other"};

}  // namespace

std::string_view name(const Doing& doing) { return kNames.at(doing.index()); }

std::span<const std::string_view> names() { return kNames; }

}  // namespace gangway::record
