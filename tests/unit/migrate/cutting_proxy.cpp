#include "cutting_proxy.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include <gtest/gtest.h>

#include "migrate/address.h"

namespace gangway::migrate {
namespace {

using namespace std::chrono_literals;

// One direction of what passes. False when it is over.
bool pass(int from, int to, std::uint64_t limit, std::vector<std::byte>& passed) {
  std::array<std::byte, 65536> buffer;
  const std::uint64_t room = std::min<std::uint64_t>(buffer.size(), limit - passed.size());
  const ssize_t got = ::recv(from, buffer.data(), room, 0);
  if (got <= 0) return false;
  passed.insert(passed.end(), buffer.begin(), buffer.begin() + got);
  for (ssize_t sent = 0; sent < got;) {
    const ssize_t n = ::send(to, buffer.data() + sent, static_cast<std::size_t>(got - sent), MSG_NOSIGNAL);
    if (n <= 0) return false;
    sent += n;
  }
  return passed.size() < limit;
}

}  // namespace

CuttingProxy::CuttingProxy(const std::string& destination, CutOptions options) : options_(options) {
  auto listening = listen_on(Address::parse("tcp:127.0.0.1:0").value()).value();
  listener_ = std::move(listening.socket);
  address_ = listening.address.text();
  stop_ = Fd(::eventfd(0, EFD_CLOEXEC));
  thread_ = std::jthread([this, destination] { run(destination); });
}

CuttingProxy::~CuttingProxy() { join(); }

void CuttingProxy::join() {
  const std::uint64_t one = 1;
  EXPECT_EQ(::write(stop_.get(), &one, sizeof one), 8);
  if (thread_.joinable()) thread_.join();
}

void CuttingProxy::run(const std::string& destination) {
  std::array<pollfd, 2> first{{{.fd = listener_.get(), .events = POLLIN}, {.fd = stop_.get(), .events = POLLIN}}};
  if (::poll(first.data(), first.size(), -1) <= 0 || first[1].revents != 0) return;
  const Fd source(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  listener_.reset();
  auto target = connect_to(Address::parse(destination).value(), 5s, {});
  if (!target) return;
  bool flowing = options_.after_to_destination != 0 && options_.after_to_source != 0;
  while (flowing) {
    std::array<pollfd, 3> entries{{{.fd = source.get(), .events = POLLIN},
                                   {.fd = target->get(), .events = POLLIN},
                                   {.fd = stop_.get(), .events = POLLIN}}};
    if (::poll(entries.data(), entries.size(), -1) < 0 || entries[2].revents != 0) return;
    if (entries[0].revents != 0) {
      flowing = pass(source.get(), target->get(), options_.after_to_destination, to_destination_);
    }
    if (flowing && entries[1].revents != 0) {
      flowing = pass(target->get(), source.get(), options_.after_to_source, to_source_);
    }
  }
  if (!options_.stall) return;
  pollfd until{.fd = stop_.get(), .events = POLLIN};
  (void)::poll(&until, 1, -1);
}

}  // namespace gangway::migrate
