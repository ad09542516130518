#include <gangway/contract.h>

namespace gangway::contract {

std::string_view name(Revision revision) {
  switch (revision) {
    case Revision::V2:
      return "v2";
    case Revision::V1:
      return "v1";
    case Revision::RegionV2:
      break;
  }
  return "region-v2";
}

std::optional<Revision> revision_from_name(std::string_view text) {
  for (const Revision revision : kAllRevisions) {
    if (name(revision) == text) return revision;
  }
  return std::nullopt;
}

}  // namespace gangway::contract
