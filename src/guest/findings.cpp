#include "guest/findings.h"

#include "base/log.h"

namespace gangway::guest {

void Findings::bad(std::string what) {
  const std::scoped_lock lock(mutex_);
  if (!first_bad_.empty()) return;
  log::error("{}", what);
  first_bad_ = std::move(what);
}

void Findings::failed(std::string why) {
  const std::scoped_lock lock(mutex_);
  if (!failure_.empty()) return;
  log::error("{}", why);
  failure_ = std::move(why);
}

std::string Findings::first_bad() const {
  const std::scoped_lock lock(mutex_);
  return first_bad_;
}

std::string Findings::failure() const {
  const std::scoped_lock lock(mutex_);
  return failure_;
}

}  // namespace gangway::guest
