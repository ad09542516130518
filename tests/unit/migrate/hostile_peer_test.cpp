// Whatever a peer sends: a clear error, a machine that runs in one place, and the next migration succeeds.
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <future>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "migrate/address.h"
#include "migrate/channel.h"
#include "migrate/conversation.h"
#include "migrate/memory_sender.h"
#include "migrate/page_batch.h"
#include "migrate/setup.h"
#include "migrate_pair.h"
#include "test_host.h"

namespace gangway::migrate {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

using Bytes = std::vector<std::byte>;

Channel connect(const std::string& address) {
  return Channel::adopt(connect_to(Address::parse(address).value(), 5s, {}).value(), 5s).value();
}

template <class... T>
Bytes payload_of(const T&... values) {
  Bytes out;
  (out.insert(out.end(), bytes_of(values).begin(), bytes_of(values).end()), ...);
  return out;
}

void append(Bytes& out, std::span<const std::byte> more) { out.insert(out.end(), more.begin(), more.end()); }

// --- a hostile source ---

struct HostileSource : testing::Test {
  HostileSource() { to.wait(); }

  // Runs `attack` against a waiting destination; its error.
  std::string refusal(const std::function<void(Channel&)>& attack, std::chrono::milliseconds stall = 5s) {
    auto waiting = std::async(std::launch::async, [&] { return listener.migrate_in(to.machine, {.stall = stall}); });
    {
      Channel channel = connect(listener.address());
      attack(channel);
    }
    const auto moved = waiting.get();
    EXPECT_FALSE(moved) << "the attack was taken for a migration";
    EXPECT_FALSE(to.machine.running());
    for (const auto& device : to.devices) EXPECT_EQ(device->state(), DeviceState::Running);
    return moved ? "success" : moved.error().message;
  }
  void greet(Channel& channel) {
    ASSERT_TRUE(channel.send_hello({}));
    ASSERT_TRUE(channel.receive_hello());
  }
  // Up to SETUP_DONE, as an honest source.
  void set_up(Channel& channel) {
    greet(channel);
    ASSERT_TRUE(channel.send(MessageType::Setup, encode(describe(to.machine).value())));
    ASSERT_TRUE(channel.send(MessageType::DeviceConfig, config()));
    auto answer = channel.receive();
    while (answer && answer->type == MessageType::Alive) answer = channel.receive();
    ASSERT_TRUE(answer && answer->type == MessageType::SetupDone);
  }
  Bytes config() {
    Bytes payload = payload_of(std::uint32_t{0});
    Bytes space(to.devices[0]->handle().region(7)->size);
    EXPECT_TRUE(to.devices[0]->handle().read(7, 0, space));
    append(payload, space);
    return payload;
  }
  void expect_moves() {
    Host from({{.p2p = true, .pre_copy = true}});
    from.machine.fill(1);
    from.start();
    const Outcome outcome = migrate_pair(from.machine, to.machine, listener);
    EXPECT_TRUE(outcome.source) << text(outcome.source) << " / " << text(outcome.destination);
    EXPECT_TRUE(to.machine.running());
  }

  Host to{{{.p2p = true, .pre_copy = true}}};
  Listener listener = Listener::bind("tcp:127.0.0.1:0").value();
};

TEST_F(HostileSource, a_peer_of_another_revision_is_told_ours) {
  const std::string error = refusal([](Channel& channel) {
    Hello hello;
    hello.revision = kRevision + 1;
    ASSERT_TRUE(channel.send_hello(hello));
    const auto answer = channel.receive_hello();
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->revision, kRevision);
  });
  EXPECT_THAT(error, HasSubstr("the peer speaks revision 2 of the migration protocol, this side 1"));
  expect_moves();
}

TEST_F(HostileSource, something_else_than_a_source_is_refused) {
  const std::string error = refusal([](Channel& channel) {
    Hello hello;
    std::memcpy(hello.magic.data(), "GET / HT", 8);
    ASSERT_TRUE(channel.send_hello(hello));
  });
  EXPECT_THAT(error, HasSubstr("does not speak gangway's migration protocol"));
  expect_moves();
}

TEST_F(HostileSource, who_says_nothing_keeps_no_source_out) {
  const Channel silent = connect(listener.address());
  {
    const Channel gone = connect(listener.address());
  }
  expect_moves();
}

TEST_F(HostileSource, memory_of_another_layout_is_refused) {
  for (const auto& change : std::vector<std::function<void(migrate::Setup&)>>{
           [](migrate::Setup& setup) { setup.blocks[0].name = "other"; },
           [](migrate::Setup& setup) { setup.blocks[0].iova.size *= 2; },
           [](migrate::Setup& setup) { setup.blocks[1].iova.start = {4096}; },
           [](migrate::Setup& setup) { setup.blocks.pop_back(); },
           [](migrate::Setup& setup) { setup.blocks.push_back(setup.blocks[0]); },
           [](migrate::Setup& setup) { setup.devices.clear(); },
           [](migrate::Setup& setup) { setup.devices[0].id = "nvme9"; },
           [](migrate::Setup& setup) { setup.devices.push_back(setup.devices[0]); }}) {
    migrate::Setup setup = describe(to.machine).value();
    change(setup);
    const std::string error = refusal([&](Channel& channel) {
      greet(channel);
      ASSERT_TRUE(channel.send(MessageType::Setup, encode(setup)));
      const auto answer = channel.receive();
      ASSERT_TRUE(answer);
      EXPECT_EQ(answer->type, MessageType::Failed) << "the source was not told";
    });
    EXPECT_THAT(error, HasSubstr("at the source"));
  }
  expect_moves();
}

struct BadMessage {
  const char* name;
  MessageType type;
  Bytes payload;
  const char* error;
};

PageRun run_of(std::uint64_t first, std::uint32_t count, std::uint32_t kind) {
  return {.first = first, .count = count, .kind = static_cast<PageRun::Kind>(kind)};
}

TEST_F(HostileSource, every_field_is_checked) {
  const std::uint32_t zero = 0;
  const std::uint32_t one = 1;
  const std::vector<BadMessage> messages{
      {"unknown type", static_cast<MessageType>(99), {}, "unknown type 99"},
      {"type 0", static_cast<MessageType>(0), {}, "unknown type 0"},
      {"out of turn", MessageType::Commit, {}, "COMMIT from the source, out of turn"},
      {"answer", MessageType::Prepared, {}, "PREPARED from the source, out of turn"},
      {"setup again", MessageType::Setup, {}, "SETUP from the source, out of turn"},
      {"no batch", MessageType::Pages, {}, "PAGES: 0 bytes are too short"},
      {"block", MessageType::Pages, payload_of(2U, one, run_of(0, 1, 1)), "PAGES: block 2 of 2"},
      {"block -1", MessageType::Pages, payload_of(~0U, one, run_of(0, 1, 1)), "PAGES: block 4294967295 of 2"},
      {"no runs", MessageType::Pages, payload_of(zero, zero), "PAGES: 0 runs"},
      {"many runs", MessageType::Pages, payload_of(zero, ~0U), "PAGES: 4294967295 runs"},
      {"runs missing", MessageType::Pages, payload_of(zero, 2U, run_of(0, 1, 1)), "PAGES: 2 runs in 24 bytes"},
      {"empty run", MessageType::Pages, payload_of(zero, one, run_of(0, 0, 1)), "run of 0 pages"},
      {"beyond", MessageType::Pages, payload_of(zero, one, run_of(512, 1, 1)), "run of 1 pages at page 512"},
      {"crosses", MessageType::Pages, payload_of(zero, one, run_of(511, 2, 1)), "run of 2 pages at page 511"},
      {"wraps", MessageType::Pages, payload_of(zero, one, run_of(~0ULL, 2, 1)), "at page 18446744073709551615"},
      {"long", MessageType::Pages, payload_of(zero, one, run_of(0, ~0U, 1)), "run of 4294967295 pages"},
      {"kind", MessageType::Pages, payload_of(zero, one, run_of(0, 1, 2)), "run of kind 2"},
      {"surplus", MessageType::Pages, payload_of(zero, one, run_of(0, 1, 1), one), "4 bytes after the runs"},
      {"much data", MessageType::Pages, payload_of(zero, 3U, run_of(0, 512, 0), run_of(0, 512, 0), run_of(0, 1, 0)),
       "more than 1024 pages of data"},
      {"round 0", MessageType::RoundEnd, payload_of(RoundEnd{0, 0}), "ROUND_END of round 0 within round 1"},
      {"round 2", MessageType::RoundEnd, payload_of(RoundEnd{2, 0}), "ROUND_END of round 2 within round 1"},
      {"final 2", MessageType::RoundEnd, payload_of(RoundEnd{1, 2}), "ROUND_END of round 1"},
      {"short end", MessageType::RoundEnd, payload_of(one), "ROUND_END of 4 bytes"},
      {"short config", MessageType::DeviceConfig, Bytes(3), "a device's message of 3 bytes"},
      {"config of nobody", MessageType::DeviceConfig, payload_of(one), "device 1 of 1"},
      {"empty config", MessageType::DeviceConfig, payload_of(zero), "config space: 0 bytes at the source"},
      {"zero config", MessageType::DeviceConfig, Bytes(4 + 4096), "config space: vendor and device is 0x0"},
      {"data of nobody", MessageType::DeviceData, payload_of(7U, one), "device 7 of 1"},
      {"no data", MessageType::DeviceData, payload_of(zero), "a message without data"},
      {"foreign data", MessageType::DeviceData, payload_of(zero, std::array<std::uint64_t, 64>{7, 7, 7}),
       "device dev0"},
      {"last at once", MessageType::Last, payload_of(LastTotals{}), "LAST before the final round"},
      {"short last", MessageType::Last, payload_of(one), "LAST of 4 bytes"},
      {"gives up", MessageType::Failed, {}, "the source gave up"},
  };
  for (const BadMessage& message : messages) {
    const std::string error = refusal([&](Channel& channel) {
      set_up(channel);
      ASSERT_TRUE(channel.send(message.type, message.payload)) << message.name;
      while (const auto answer = channel.receive()) EXPECT_NE(answer->type, MessageType::Prepared) << message.name;
    });
    EXPECT_THAT(error, HasSubstr(message.error)) << message.name;
    if (HasFailure()) return;
  }
  expect_moves();
}

TEST_F(HostileSource, memory_that_never_came_is_noticed) {
  const std::string error = refusal([&](Channel& channel) {
    set_up(channel);
    ASSERT_TRUE(channel.send(MessageType::Pages, payload_of(0U, 1U, run_of(0, 512, 1))));
    ASSERT_TRUE(channel.send(MessageType::Pages, payload_of(1U, 2U, run_of(0, 100, 1), run_of(101, 411, 1))));
    ASSERT_TRUE(channel.send(MessageType::RoundEnd, payload_of(RoundEnd{1, 1})));
    ASSERT_TRUE(channel.send(MessageType::Cpus, Bytes(3)));
    ASSERT_TRUE(channel.send(MessageType::Last, payload_of(LastTotals{})));
    while (const auto answer = channel.receive()) EXPECT_NE(answer->type, MessageType::Prepared);
  });
  EXPECT_THAT(error, HasSubstr("load: memory: page 100 of block ram1 was never sent"));
}

TEST_F(HostileSource, a_device_that_got_no_data_is_noticed) {
  const std::string error = refusal([&](Channel& channel) {
    set_up(channel);
    ASSERT_TRUE(channel.send(MessageType::Pages, payload_of(0U, 1U, run_of(0, 512, 1))));
    ASSERT_TRUE(channel.send(MessageType::Pages, payload_of(1U, 1U, run_of(0, 512, 1))));
    ASSERT_TRUE(channel.send(MessageType::RoundEnd, payload_of(RoundEnd{1, 1})));
    ASSERT_TRUE(channel.send(MessageType::Cpus, Bytes(3)));
    ASSERT_TRUE(channel.send(MessageType::Last, payload_of(LastTotals{})));
    while (const auto answer = channel.receive()) EXPECT_NE(answer->type, MessageType::Prepared);
  });
  EXPECT_THAT(error, HasSubstr("load: device dev0: to STOP"));
}

TEST_F(HostileSource, a_page_that_differs_from_its_checksum_is_noticed) {
  const std::string error = refusal([&](Channel& channel) {
    greet(channel);
    migrate::Setup setup = describe(to.machine).value();
    setup.page_checksums = true;
    ASSERT_TRUE(channel.send(MessageType::Setup, encode(setup)));
    ASSERT_TRUE(channel.send(MessageType::DeviceConfig, config()));
    Bytes page(kPageSize, std::byte{7});
    iovec data{.iov_base = page.data(), .iov_len = page.size()};
    ASSERT_TRUE(channel.send_with_data(MessageType::Pages, payload_of(0U, 1U, run_of(3, 1, 0), 0xdeadbeefU),
                                       std::span(&data, 1)));
    ASSERT_TRUE(channel.send(MessageType::Pages, payload_of(0U, 2U, run_of(0, 3, 1), run_of(4, 508, 1))));
    ASSERT_TRUE(channel.send(MessageType::Pages, payload_of(1U, 1U, run_of(0, 512, 1))));
    ASSERT_TRUE(channel.send(MessageType::RoundEnd, payload_of(RoundEnd{1, 1})));
    ASSERT_TRUE(channel.send(MessageType::Cpus, Bytes(3)));
    ASSERT_TRUE(channel.send(MessageType::Last, payload_of(LastTotals{.memory_bytes = kPageSize})));
    while (const auto answer = channel.receive()) EXPECT_NE(answer->type, MessageType::Prepared);
  });
  EXPECT_THAT(error, HasSubstr("page 3 of block ram0 differs from its checksum"));
}

// Fixed seeds: messages with a right checksum and bytes changed at random.
TEST_F(HostileSource, mutated_messages_are_refused_or_ignored) {
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    std::mt19937_64 random(seed);
    (void)refusal([&](Channel& channel) {
      set_up(channel);
      const std::vector<std::pair<MessageType, Bytes>> templates{
          {MessageType::Pages, payload_of(0U, 2U, run_of(0, 16, 1), run_of(20, 300, 1))},
          {MessageType::RoundEnd, payload_of(RoundEnd{1, 0})},
          {MessageType::DeviceConfig, config()},
          {MessageType::DeviceData, payload_of(0U, std::uint64_t{0x1234})},
          {MessageType::Cpus, Bytes(8)},
          {MessageType::Last, payload_of(LastTotals{})},
          {MessageType::Failed, payload_of(5, 1U)},
      };
      for (int i = 0; i < 6; ++i) {
        auto [type, payload] = templates[random() % templates.size()];
        for (std::size_t n = random() % 3; n-- > 0 && !payload.empty();) {
          payload[random() % std::min<std::size_t>(payload.size(), 64)] = static_cast<std::byte>(random());
        }
        if (random() % 4 == 0) payload.resize(random() % 64);
        if (!channel.send(type, payload)) return;
      }
    });
    if (HasFailure()) {
      ADD_FAILURE() << "seed " << seed;
      return;
    }
  }
  expect_moves();
}

// Fixed seeds: bytes that are no messages at all, after an honest beginning of any length.
TEST_F(HostileSource, noise_is_refused) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    std::mt19937_64 random(seed);
    (void)refusal([&](Channel& channel) {
      if (seed % 3 != 0) greet(channel);
      Hello noise;
      for (int i = 0; i < 5; ++i) {
        for (auto& word : noise.migration) word = random();
        noise.revision = static_cast<std::uint32_t>(random());
        noise.size = static_cast<std::uint32_t>(random());
        if (!channel.send_hello(noise)) return;
      }
    });
  }
  expect_moves();
}

// --- a hostile destination ---

struct HostileDestination : testing::Test {
  HostileDestination() {
    from.machine.fill(1);
    from.start();
  }
  std::string refusal(const std::function<void(Channel&)>& answer, std::chrono::milliseconds stall = 5s) {
    auto listening = listen_on(Address::parse("tcp:127.0.0.1:0").value()).value();
    auto moving = std::async(std::launch::async,
                             [&] { return migrate_out(from.machine, listening.address.text(), {.stall = stall}); });
    {
      Channel channel = Channel::adopt(accept_on(listening.socket, 5s, {}).value(), 5s).value();
      answer(channel);
    }
    const auto moved = moving.get();
    EXPECT_FALSE(moved);
    code = moved ? 0 : moved.error().code;
    if (code != EINPROGRESS) {
      EXPECT_TRUE(from.machine.running());
      EXPECT_EQ(from.devices[0]->state(), DeviceState::Running);
    }
    return moved ? "success" : moved.error().message;
  }
  void greet(Channel& channel) {
    const auto hello = channel.receive_hello();
    ASSERT_TRUE(hello);
    ASSERT_TRUE(channel.send_hello(*hello));
  }
  // Takes everything as an honest destination and leaves the memory unread; ends after LAST.
  void take_all(Channel& channel) {
    greet(channel);
    std::size_t configs = 0;
    Bytes page(kMaxBatchPages * kPageSize);
    for (;;) {
      auto message = channel.receive();
      ASSERT_TRUE(message) << message.error().message;
      if (message->type == MessageType::DeviceConfig && ++configs == 1) {
        ASSERT_TRUE(channel.send(MessageType::SetupDone, {}));
      }
      if (message->type == MessageType::RoundEnd && load_at<RoundEnd>(message->payload)->final == 0) {
        ASSERT_TRUE(channel.send(MessageType::RoundDone, bytes_of(load_at<RoundEnd>(message->payload)->round)));
      }
      if (message->type == MessageType::Pages) {
        const auto batch = read_page_batch(message->payload, from.machine.memory(), false);
        ASSERT_TRUE(batch);
        iovec data{.iov_base = page.data(), .iov_len = batch->data_pages * kPageSize};
        ASSERT_TRUE(channel.receive_data(std::span(&data, 1)));
      }
      if (message->type == MessageType::Last) return;
    }
  }

  Host from{{{.p2p = true, .pre_copy = true}}};
  int code = 0;
};

TEST_F(HostileDestination, of_another_revision_is_refused) {
  EXPECT_THAT(refusal([](Channel& channel) {
                Hello hello;
                hello.revision = 7;
                ASSERT_TRUE(channel.send_hello(hello));
              }),
              HasSubstr("connect: the peer speaks revision 7 of the migration protocol, this side 1"));
}

TEST_F(HostileDestination, answers_that_make_no_sense_are_refused) {
  EXPECT_THAT(refusal([&](Channel& channel) {
                greet(channel);
                ASSERT_TRUE(channel.send(MessageType::Running, {}));
                while (channel.receive()) {
                }
              }),
              HasSubstr("setup: RUNNING from the destination instead of SETUP_DONE"));
  EXPECT_THAT(refusal([&](Channel& channel) {
                take_all(channel);
                ASSERT_TRUE(channel.send(MessageType::Running, {}));
              }),
              HasSubstr("switchover: load: RUNNING from the destination instead of PREPARED"));
}

TEST_F(HostileDestination, its_words_are_shown_without_control_characters) {
  const std::string error = refusal([&](Channel& channel) {
    greet(channel);
    Bytes payload = payload_of(ENOSPC, 0U);
    append(payload, std::as_bytes(std::span("full\x1b[2J", 8)));
    ASSERT_TRUE(channel.send(MessageType::Failed, payload));
    while (channel.receive()) {
    }
  });
  EXPECT_THAT(error, HasSubstr("the destination gave up: full?[2J"));
  EXPECT_EQ(code, ENOSPC);
}

TEST_F(HostileDestination, one_that_goes_before_the_order_to_run_leaves_the_machine_here) {
  (void)refusal([&](Channel& channel) { take_all(channel); });
  EXPECT_NE(code, EINPROGRESS);
  (void)refusal([&](Channel& channel) {
    take_all(channel);
    ASSERT_TRUE(channel.send(MessageType::Failed, payload_of(EIO, 0U)));
  });
  EXPECT_EQ(code, EIO);
}

TEST_F(HostileDestination, one_that_goes_after_the_order_to_run_leaves_nobody_sure) {
  const std::string error = refusal([&](Channel& channel) {
    take_all(channel);
    ASSERT_TRUE(channel.send(MessageType::Prepared, {}));
    ASSERT_EQ(next_message(channel)->type, MessageType::Commit);
  });
  EXPECT_EQ(code, EINPROGRESS);
  EXPECT_THAT(error, HasSubstr("may be running"));
  EXPECT_FALSE(from.machine.running());
  EXPECT_EQ(from.devices[0]->state(), DeviceState::StopCopy);
}

TEST_F(HostileDestination, one_that_did_not_run_it_gives_it_back_even_after_the_order) {
  (void)refusal([&](Channel& channel) {
    take_all(channel);
    ASSERT_TRUE(channel.send(MessageType::Prepared, {}));
    ASSERT_EQ(next_message(channel)->type, MessageType::Commit);
    ASSERT_TRUE(channel.send(MessageType::Failed, payload_of(EIO, 0U)));
    while (channel.receive()) {
    }
  });
  EXPECT_EQ(code, EIO);
  EXPECT_TRUE(from.machine.running());
}

}  // namespace
}  // namespace gangway::migrate
