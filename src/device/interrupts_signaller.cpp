#include "device/interrupts_signaller.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <ctime>

#include "device/interrupts_eventfd.h"

namespace gangway {
namespace {

// Completions that wait to be forgotten; the kernel counts them against a limit of the whole machine.
constexpr unsigned kCompletions = 16;

}  // namespace

Interrupts::Signaller::Signaller() : ready_(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)) {}

// Tried on the eventfd of our own first: it counts 1, and 2 once it was signalled.
void Interrupts::Signaller::begin() {
  begun_ = true;
  if (!ready_ || ::syscall(SYS_io_setup, kCompletions, &context_) != 0) {
    context_ = 0;
    return;
  }
  std::uint64_t count = 0;
  const bool works = submit(ready_.get()) && ::read(ready_.get(), &count, sizeof count) == sizeof count && count == 2;
  const std::uint64_t one = 1;
  if (!works || ::write(ready_.get(), &one, sizeof one) != sizeof one) end();
}

Interrupts::Signaller::~Signaller() { end(); }

void Interrupts::Signaller::end() {
  if (context_ != 0) ::syscall(SYS_io_destroy, context_);
  context_ = 0;
}

void Interrupts::Signaller::signal(int event) {
  if (!begun_) begin();
  if (context_ == 0) {
    eventfd::signal(event);
    return;
  }
  if (submit(event) || errno != EAGAIN) return;  // else: no eventfd at all
  std::array<io_event, std::size_t{4} * kCompletions> completions;
  timespec at_once{};
  while (::syscall(SYS_io_getevents, context_, 0L, static_cast<long>(completions.size()), completions.data(),
                   &at_once) == static_cast<long>(completions.size())) {
  }
  (void)submit(event);
}

bool Interrupts::Signaller::submit(int event) {
  iocb operation{};
  operation.aio_lio_opcode = IOCB_CMD_POLL;
  operation.aio_fildes = static_cast<std::uint32_t>(ready_.get());
  operation.aio_buf = POLLIN;
  operation.aio_flags = IOCB_FLAG_RESFD;
  operation.aio_resfd = static_cast<std::uint32_t>(event);
  std::array<iocb*, 1> operations{&operation};
  return ::syscall(SYS_io_submit, context_, 1L, operations.data()) == 1;
}

}  // namespace gangway
