// Sequences of acts against the model: all short ones, and random walks.
#include <algorithm>
#include <random>

#include "conformance/player.h"
#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

using Kind = Act::Kind;

std::vector<Act> alphabet(const Context& c) {
  std::vector<Act> acts;
  for (const DeviceState state : states_of(c.flags())) acts.push_back(Act::set(state));
  const auto add = [&](Kind kind, std::uint32_t needs) {
    if ((c.abilities.have & needs) == needs) acts.push_back({.kind = kind});
  };
  add(Kind::Reset, kReset);
  for (const Kind kind : {Kind::Read, Kind::ReadAll, Kind::Write, Kind::WriteAll, Kind::Open}) add(kind, 0);
  for (const Kind kind : {Kind::LogStart, Kind::LogStop, Kind::LogReport}) add(kind, kDmaLogging);
  for (const Kind kind : {Kind::Config, Kind::Interrupts}) add(kind, kPci);
  add(Kind::CloseData, kDataFd);
  return acts;
}

// What the model holds for likely after acts that all went as they may, without a device: enough to tell which act
// makes sense next.
class Plan {
 public:
  Plan(MigrationFlags flags, std::size_t stream, Risks risks) : model_(flags, stream), risks_(risks) {}

  [[nodiscard]] bool takes(const Act& act) const { return model_.is_legal(act) && risks_.allow(act, model_); }
  // Whether a state may be held over a reopen, and whether one was.
  [[nodiscard]] bool may_hold() const { return risks_.held_states; }
  [[nodiscard]] bool held() const { return held_; }

  void go(const Act& act) {
    held_ |= model_.holds_state(act);
    Outcome outcome;
    if (act.kind == Kind::Set && model_.state() == DeviceState::Resuming && !model_.whole() &&
        act.number != static_cast<std::uint64_t>(DeviceState::Resuming)) {
      outcome.error = Error{EINVAL, "the stream is not whole", {}};
    }
    if (act.kind == Kind::ReadAll) {
      outcome.end = contract::is_pre_copy(model_.state()) ? StreamEnd::Temporary : StreamEnd::Final;
    }
    (void)model_.judge(act, outcome);
  }

 private:
  Model model_;
  Risks risks_;
  bool held_ = false;
};

// What is known to crash some kernels is for the tests that run last.
constexpr Risks kSafe{};
constexpr Risks kHeld{.held_states = true};

// All sequences of `depth` legal acts; each shorter one begins some of them. Where states may be held over a reopen,
// those in which one is.
void append_sequences(const std::vector<Act>& acts, const Plan& plan, std::size_t depth, std::vector<Act>& so_far,
                      std::vector<std::vector<Act>>& all) {
  if (depth == 0) {
    if (plan.held() == plan.may_hold()) all.push_back(so_far);
    return;
  }
  for (const Act& act : acts) {
    if (!plan.takes(act)) continue;
    Plan after = plan;
    after.go(act);
    so_far.push_back(act);
    append_sequences(acts, after, depth - 1, so_far, all);
    so_far.pop_back();
  }
}

void play_sequences(Context& c, Risks risks) {
  Player player = make_player(c, risks);
  std::vector<std::vector<Act>> all;
  std::vector<Act> so_far;
  append_sequences(alphabet(c), Plan(c.flags(), c.device.good().size(), risks), c.settings.depth, so_far, all);
  if (all.empty()) throw Untestable{with_name("sequences of so few acts hold none", c.settings.names.depth), false};
  player.play_all(all, "sequence");
}

void every_short_sequence(Context& c) { play_sequences(c, kSafe); }
void every_short_sequence_with_a_held_state(Context& c) { play_sequences(c, kHeld); }

std::vector<Act> random_walk(Context& c, std::size_t stream, Risks risks, std::mt19937_64& random, std::size_t length) {
  const std::vector<Act> acts = alphabet(c);
  Plan plan(c.flags(), stream, risks);
  std::vector<Act> walk;
  while (walk.size() < length) {
    std::vector<Act> possible;
    std::ranges::copy_if(acts, std::back_inserter(possible), [&](const Act& act) { return plan.takes(act); });
    Act act = possible[random() % possible.size()];
    // Reads and writes of any size: from a byte to beyond the end.
    if ((act.kind == Kind::Read || act.kind == Kind::Write) && random() % 2 == 0)
      act.number = 1 + random() % (stream + 16);
    if ((act.kind == Kind::ReadAll || act.kind == Kind::WriteAll) && random() % 2 == 0)
      act.number = 1 + random() % 4096;
    plan.go(act);
    walk.push_back(act);
  }
  return walk;
}

void play_walks(Context& c, Risks risks) {
  constexpr std::size_t kLength = 30;
  Player player = make_player(c, risks);
  const std::size_t stream = c.device.good().size();
  std::mt19937_64 random(c.settings.seed);
  std::vector<std::vector<Act>> walks;
  for (std::size_t done = 0; done < c.settings.walk; done += kLength) {
    walks.push_back(random_walk(c, stream, risks, random, std::min<std::size_t>(kLength, c.settings.walk - done)));
  }
  if (walks.empty()) throw Untestable{with_name("no walk was asked for", c.settings.names.walk), false};
  player.play_all(walks, "walk");
}

void random_walks(Context& c) { play_walks(c, kSafe); }
void random_walks_with_held_states(Context& c) { play_walks(c, kHeld); }

}  // namespace

std::vector<Test> sequence_tests() {
  return {
      {"every_short_sequence",
       {"FSM-ARC", "FSM-REPEAT", "FSM-COMPLETE", "DAT-SESSION"},
       kMigration,
       every_short_sequence},
      {"random_walks", {"FSM-ARC", "FSM-REPEAT", "FSM-COMPLETE", "DAT-SESSION"}, kMigration, random_walks},
      {"every_short_sequence_with_a_held_state",
       {"FSM-INITIAL"},
       kMigration,
       every_short_sequence_with_a_held_state,
       Level::Must,
       true},
      {"random_walks_with_held_states", {"FSM-INITIAL"}, kMigration, random_walks_with_held_states, Level::Must, true},
  };
}

}  // namespace gangway::conformance
