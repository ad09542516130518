#include "conformance/player.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "conformance/shrink.h"
#include "conformance/steps.h"

namespace gangway::conformance {
namespace {

bool same(const Act& a, const Act& b) { return to_text(a) == to_text(b); }

bool begins_with(const std::vector<Act>& acts, const std::vector<Act>& beginning) {
  return acts.size() >= beginning.size() && std::equal(beginning.begin(), beginning.end(), acts.begin(), same);
}

// What a sequence meant by an act may not come about: a device that once refused a load may refuse it again (FSM-FAIL),
// and stays in RESUMING. Then there is nothing to write any more, which is no write at all.
bool is_moot(const Act& act, const Model& model) {
  switch (act.kind) {
    case Act::Kind::Read:
    case Act::Kind::ReadAll:
    case Act::Kind::Write:
    case Act::Kind::WriteAll:
    case Act::Kind::CloseData:
      return !model.is_legal(act);
    default:
      return false;
  }
}

bool writes(const Act& act) { return act.kind == Act::Kind::Write || act.kind == Act::Kind::WriteAll; }

}  // namespace

Player::Player(Context& context, Bytes good, Risks risks) : context_(context), good_(std::move(good)), risks_(risks) {}

std::optional<Finding> Player::play_now(Subject& subject, const std::vector<Act>& acts) {
  Model model(context_.flags(), good_.size());
  const Outcome opened = perform(subject, {.kind = Act::Kind::Open});
  subject.give(good_);
  if (auto finding = model.judge({.kind = Act::Kind::Open}, opened)) return finding;
  for (const Act& act : acts) {
    ++played_;
    if (is_moot(act, model) || !risks_.allow(act, model)) continue;
    place_ = {act.kind, act.kind == Act::Kind::Set ? act.number : 0, model.state()};
    if (auto finding = model.judge(act, perform(subject, act))) return finding;
  }
  return {};
}

std::optional<Finding> Player::play(const std::vector<Act>& acts) {
  // What the last play left is no part of this one.
  step(context_.device.rest(), "leave the device RUNNING");
  context_.device.close();
  context_.journal.clear();
  played_ = 0;
  place_ = {Act::Kind::Open, 0, DeviceState::Running};
  auto finding = play_now(context_.device, acts);
  if (finding) finding->script = script_of(acts) + context_.journal.text();
  return finding;
}

// The stream that a script writes is saved by its first lines.
std::string Player::script_of(const std::vector<Act>& acts) {
  if (std::ranges::none_of(acts, writes)) return {};
  return "open\nset STOP_COPY\nread all\nkeep\nset RUNNING\n";
}

Finding Player::shorten(const std::vector<Act>& acts, Finding finding) {
  (void)shrink(
      acts,
      [&](const std::vector<Act>& candidate) {
        auto again = play(candidate);
        if (!again || again->clause != finding.clause) return false;
        finding = *std::move(again);
        return true;
      },
      context_.settings.plays);
  return finding;
}

// What fails after a failure is a failure of its own only on a device that is as it was before.
void Player::recover(const Finding& from) {
  Subject& subject = context_.device;
  try {
    if (!subject.lost()) (void)subject.reset();
    reopen(subject);
    if (step(subject.get(), "get") != DeviceState::Running) reset(subject);
    make_stream(subject);
    reopen(subject);
    if (step(subject.get(), "get") != DeviceState::Running) throw Untestable{"opened anew it is not RUNNING"};
  } catch (const Untestable& untestable) {
    throw Untestable{
        fmt::format("the device does not recover from a failure of {}: {}", from.clause, untestable.reason)};
  }
}

void Player::play_all(const std::vector<std::vector<Act>>& all, std::string_view what) {
  std::set<Place> failed;
  std::vector<std::vector<Act>> beginnings;
  std::size_t ended_early = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i % 50 == 0) context_.doing(fmt::format("{} {} of {}", what, i, all.size()));
    const std::vector<Act>& acts = all[i];
    if (std::ranges::any_of(beginnings, [&](const auto& beginning) { return begins_with(acts, beginning); })) {
      ++ended_early;
      continue;
    }
    auto finding = play(acts);
    if (!finding) continue;
    ++ended_early;
    const std::string why_lost = context_.device.lost() ? context_.device.why_lost() : std::string();
    beginnings.emplace_back(acts.begin(), acts.begin() + static_cast<std::ptrdiff_t>(played_));
    if (failed.insert(place_).second &&
        std::ranges::find(context_.found, finding->clause, &Finding::clause) == context_.found.end()) {
      context_.found.push_back(shorten(beginnings.back(), *finding));
    }
    // Going on would cost the time limit again and again.
    if (!why_lost.empty()) throw Untestable{fmt::format("{} {} of {}: {}", what, i + 1, all.size(), why_lost)};
    recover(*finding);
  }
  if (ended_early == 0) return;
  context_.note = fmt::format("{} of {} {}s end early, where a clause fails", ended_early, all.size(), what);
  if (ended_early == all.size()) throw Untestable{std::exchange(context_.note, {})};
}

Player make_player(Context& context, Risks risks) {
  make_stream(context.device);
  return {context, context.device.good(), risks};
}

}  // namespace gangway::conformance
