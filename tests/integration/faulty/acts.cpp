#include "integration/faulty/acts.h"

namespace gangway::faulty {

const Acts& acts() {
  static const Acts all = [] {
    Acts gathered = migration_acts();
    gathered.merge(running_acts());
    gathered.merge(region_acts());
    gathered.merge(wire_acts());
    return gathered;
  }();
  return all;
}

}  // namespace gangway::faulty
