#include "record/act_diff.h"

#include <algorithm>
#include <map>
#include <utility>

#include "record/fields.h"

namespace gangway::record {
namespace {

// More differences than this between two sequences are not counted: the work grows with their square.
constexpr int kMostDifferences = 3000;

using Side = std::vector<const Act*>;  // acts of one connection and one side
using Sides = std::map<std::pair<std::size_t, bool>, Side>;

Sides sides_of(std::span<const Act> acts) {
  std::map<std::uint32_t, std::size_t> order;
  Sides sides;
  for (const Act& act : acts) {
    const std::size_t number = order.try_emplace(act.connection, order.size() + 1).first->second;
    sides[{number, act.by_device}].push_back(&act);
  }
  return sides;
}

enum class Step : std::uint8_t { Same, Left, Right };

// The shortest way from one sequence to the other: E. W. Myers, "An O(ND) Difference Algorithm and Its Variations",
// 1986.
class ShortestEdit {
 public:
  ShortestEdit(std::vector<std::string> left, std::vector<std::string> right)
      : left_(std::move(left)), right_(std::move(right)) {}

  // nullopt when it is longer than kMostDifferences.
  [[nodiscard]] std::optional<std::vector<Step>> find() {
    const int n = static_cast<int>(left_.size());
    const int m = static_cast<int>(right_.size());
    std::vector<int> reach{0, 0, 0};  // the farthest left on each diagonal -d..d
    for (int d = 0; d <= std::min(n + m, kMostDifferences); ++d) {
      std::vector<int> next(2 * static_cast<std::size_t>(d) + 3, -1);
      for (int k = -d; k <= d; k += 2) {
        int x = d == 0 ? 0 : came_from_above(reach, d, k) ? at(reach, d - 1, k + 1) : at(reach, d - 1, k - 1) + 1;
        while (x < n && x - k < m && x - k >= 0 && left_[index(x)] == right_[index(x - k)]) ++x;
        at(next, d, k) = x;
        if (x >= n && x - k >= m) {
          reached_.push_back(std::move(next));
          return way_back(d, k);
        }
      }
      reach = next;
      reached_.push_back(std::move(next));
    }
    return std::nullopt;
  }

 private:
  static std::size_t index(int value) { return static_cast<std::size_t>(value); }
  static int& at(std::vector<int>& reach, int d, int k) { return reach[index(k + d + 1)]; }
  static bool came_from_above(std::vector<int>& reach, int d, int k) {
    return k == -d || (k != d && at(reach, d - 1, k - 1) < at(reach, d - 1, k + 1));
  }

  std::vector<Step> way_back(int d, int k) {
    std::vector<Step> steps;
    int x = at(reached_[index(d)], d, k);
    for (; d > 0; --d) {
      std::vector<int>& before = reached_[index(d - 1)];
      const bool above = came_from_above(before, d, k);
      const int from = above ? at(before, d - 1, k + 1) : at(before, d - 1, k - 1);
      const int moved_to = above ? from : from + 1;
      steps.insert(steps.end(), index(x - moved_to), Step::Same);
      steps.push_back(above ? Step::Right : Step::Left);
      k += above ? 1 : -1;
      x = from;
    }
    steps.insert(steps.end(), index(x), Step::Same);
    std::ranges::reverse(steps);
    return steps;
  }

  const std::vector<std::string> left_;
  const std::vector<std::string> right_;
  std::vector<std::vector<int>> reached_;
};

std::vector<std::string> comparable_all(const Side& side) {
  std::vector<std::string> all;
  for (const Act* act : side) all.push_back(comparable(*act));
  return all;
}

// An act that is gone and one of the same name in its place are one act that differs.
void join(std::vector<Difference>& differences, const Side& left, const Side& right) {
  std::vector<Difference> joined;
  for (Difference& one : differences) {
    Difference* last = joined.empty() ? nullptr : &joined.back();
    const bool pair = last != nullptr && last->left && !last->right && one.right && !one.left &&
                      name(left[*last->left - 1]->doing) == name(right[*one.right - 1]->doing);
    if (pair) {
      last->right = one.right;
      last->right_text = std::move(one.right_text);
    } else {
      joined.push_back(std::move(one));
    }
  }
  differences = std::move(joined);
}

void compare_sides(std::pair<std::size_t, bool> which, const Side& left, const Side& right, Comparison& into) {
  const std::vector<std::string> a = comparable_all(left);
  const std::vector<std::string> b = comparable_all(right);
  std::vector<Difference> differences;
  const auto differs = [&](std::optional<std::size_t> i, std::optional<std::size_t> j) {
    differences.push_back({.connection = static_cast<std::uint32_t>(which.first),
                           .by_device = which.second,
                           .left = i ? std::optional(*i + 1) : std::nullopt,
                           .right = j ? std::optional(*j + 1) : std::nullopt,
                           .left_text = i ? a[*i] : std::string(),
                           .right_text = j ? b[*j] : std::string()});
  };
  const auto steps = ShortestEdit(a, b).find();
  if (!steps) {
    const auto [i, j] = std::ranges::mismatch(a, b);
    into.same += static_cast<std::size_t>(i - a.begin());
    into.gave_up = true;
    differs(i == a.end() ? std::nullopt : std::optional(static_cast<std::size_t>(i - a.begin())),
            j == b.end() ? std::nullopt : std::optional(static_cast<std::size_t>(j - b.begin())));
  } else {
    std::size_t i = 0;
    std::size_t j = 0;
    for (const Step step : *steps) {
      if (step == Step::Same) ++into.same;
      if (step == Step::Left) differs(i, std::nullopt);
      if (step == Step::Right) differs(std::nullopt, j);
      i += step != Step::Right ? 1 : 0;
      j += step != Step::Left ? 1 : 0;
    }
    join(differences, left, right);
  }
  std::ranges::move(differences, std::back_inserter(into.differences));
}

}  // namespace

std::string comparable(const Act& act) {
  std::string all(name(act.doing));
  for (const Field& field : fields(act)) {
    if (field.kind == Field::Kind::Plain) all += " " + std::string(field.name) + "=" + text(field);
  }
  return all;
}

Comparison compare(std::span<const Act> left, std::span<const Act> right) {
  const Sides a = sides_of(left);
  const Sides b = sides_of(right);
  std::map<std::pair<std::size_t, bool>, std::pair<Side, Side>> both;
  for (const auto& [which, side] : a) both[which].first = side;
  for (const auto& [which, side] : b) both[which].second = side;
  Comparison comparison;
  for (const auto& [which, pair] : both) compare_sides(which, pair.first, pair.second, comparison);
  return comparison;
}

}  // namespace gangway::record
