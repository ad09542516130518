#include "conformance/player.h"

#include <algorithm>

#include "conformance/shrink.h"
#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

bool writes(const Act& act) { return act.kind == Act::Kind::Write || act.kind == Act::Kind::WriteAll; }

}  // namespace

Player::Player(Context& context, Bytes good) : context_(context), good_(std::move(good)) {}

std::optional<Finding> Player::play_now(Subject& subject, const std::vector<Act>& acts) {
  Model model(context_.flags(), good_.size());
  if (!subject.lost() && subject.last_state() != DeviceState::Running) reset(subject);
  const Outcome opened = perform(subject, {.kind = Act::Kind::Open});
  subject.give(good_);
  if (auto finding = model.judge({.kind = Act::Kind::Open}, opened)) return finding;
  for (const Act& act : acts) {
    if (auto finding = model.judge(act, perform(subject, act))) return finding;
  }
  return {};
}

std::optional<Finding> Player::play(const std::vector<Act>& acts) {
  context_.journal.clear();
  auto finding = play_now(context_.device, acts);
  if (finding) finding->script = script_of(acts) + context_.journal.text();
  return finding;
}

// The stream that a script writes is saved by its first lines.
std::string Player::script_of(const std::vector<Act>& acts) {
  if (std::ranges::none_of(acts, writes)) return {};
  return "open\nset STOP_COPY\nread all\nkeep\nset RUNNING\n";
}

std::optional<Finding> Player::play_and_shrink(const std::vector<Act>& acts) {
  auto finding = play(acts);
  if (!finding) return {};
  (void)shrink(
      acts,
      [&](const std::vector<Act>& candidate) {
        auto again = play(candidate);
        if (!again || again->clause != finding->clause) return false;
        finding = std::move(again);
        return true;
      },
      context_.settings.plays);
  return finding;
}

Player make_player(Context& context) {
  make_stream(context.device);
  return {context, context.device.good()};
}

}  // namespace gangway::conformance
