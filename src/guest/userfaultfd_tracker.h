// Written pages by write protection with a handler thread.
//
// A write to a protected page stops until the handler marked the page and lifted its protection. Marking and lifting is
// one step against collecting and protecting anew (one mutex), or a page could be lifted without a mark.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include <gangway/error.h>
#include <gangway/fd.h>

#include "guest/memory.h"
#include "guest/userfaultfd.h"
#include "migrate/machine.h"

namespace gangway::guest {

class UserfaultfdTracker : public migrate::DirtyTracker {
 public:
  // ENOTSUP where the kernel or the machine's settings do not allow it.
  static Result<std::unique_ptr<migrate::DirtyTracker>> create(GuestMemory& memory);
  ~UserfaultfdTracker() override;

  Result<void> start() override;
  Result<void> collect(std::size_t block, std::span<std::uint64_t> bitmap) override;
  Result<void> stop() override;
  [[nodiscard]] std::string_view method() const override { return "userfaultfd"; }

 private:
  UserfaultfdTracker(GuestMemory& memory, Fd wake) : memory_(memory), wake_(std::move(wake)) {}
  void handle_faults();
  void handle_fault(std::uintptr_t address);
  void end_handler();

  GuestMemory& memory_;
  Fd wake_;                                // an eventfd: readable when the handler shall end
  std::optional<Userfaultfd> protection_;  // while started
  std::mutex mutex_;
  std::vector<std::vector<std::uint64_t>> written_;  // by block, bit n: page n
  std::thread handler_;
};

}  // namespace gangway::guest
