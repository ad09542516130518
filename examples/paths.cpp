// Prints the states a fully featured device passes on the way from one state to another.
#include <cstdio>

#include <gangway/contract.h>

int main(int argc, char** argv) {
  using namespace gangway;
  if (argc != 3)
    return std::fputs("usage: paths FROM TO    (states as in vfio.h: RUNNING, STOP_COPY, ...)\n", stderr), 2;
  const auto from = contract::state_from_name(argv[1]);
  const auto to = contract::state_from_name(argv[2]);
  if (!from || !to) return std::fputs("no such state\n", stderr), 2;
  const auto path = contract::path(*from, *to, {.p2p = true, .pre_copy = true});
  if (!path) return std::puts("EINVAL"), 1;
  for (const DeviceState state : *path) std::printf("%s ", contract::name(state).data());
  std::puts("");
}
