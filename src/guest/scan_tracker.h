// Written pages by asynchronous write protection and PAGEMAP_SCAN.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "guest/memory.h"
#include "guest/userfaultfd.h"
#include "migrate/machine.h"

namespace gangway::guest {

class ScanTracker : public migrate::DirtyTracker {
 public:
  // ENOTSUP unless a trial on a page of its own shows that this kernel reports what it must.
  static Result<std::unique_ptr<migrate::DirtyTracker>> create(GuestMemory& memory);
  ~ScanTracker() override;

  Result<void> start() override;
  Result<void> collect(std::size_t block, std::span<std::uint64_t> bitmap) override;
  Result<void> stop() override;
  [[nodiscard]] std::string_view method() const override { return "write-protect scan"; }

 private:
  ScanTracker(GuestMemory& memory, Fd pagemap) : memory_(memory), pagemap_(std::move(pagemap)) {}

  GuestMemory& memory_;
  Fd pagemap_;
  std::optional<Userfaultfd> protection_;  // while started
};

}  // namespace gangway::guest
