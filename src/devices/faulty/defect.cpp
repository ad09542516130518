#include "devices/faulty/defect.h"

#include <algorithm>
#include <iterator>

namespace gangway::faulty {

bool Defect::shown_with(MigrationFlags flags) const {
  switch (shows) {
    case Shows::WithP2p:
      return flags.p2p;
    case Shows::WithPreCopy:
      return flags.pre_copy;
    case Shows::WithoutAll:
      return !flags.p2p || !flags.pre_copy;
    case Shows::Always:
      break;
  }
  return true;
}

std::span<const Defect> defects() {
  static const std::vector<Defect> all = [] {
    std::vector<Defect> gathered;
    for (const auto group : {state_machine_defects, reset_defects, session_defects, stream_defects, pre_copy_defects,
                             stopped_defects, dma_log_defects, region_defects, region_data_defects, wire_defects}) {
      std::ranges::move(group(), std::back_inserter(gathered));
    }
    return gathered;
  }();
  return all;
}

const Defect* find_defect(std::string_view name) {
  const auto found = std::ranges::find(defects(), name, &Defect::name);
  return found == defects().end() ? nullptr : &*found;
}

}  // namespace gangway::faulty
