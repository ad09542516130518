// DmaLog against a model that keeps every dirty page in a set.
#include <gangway/dma_log.h>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <bit>
#include <set>
#include <vector>

namespace gangway {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::size_t kAnySize = std::size_t{1} << 40;

class Model {
 public:
  Model(std::vector<IovaRange> ranges, std::uint64_t page_size) : ranges_(std::move(ranges)), page_size_(page_size) {}

  void mark(std::uint64_t iova, std::uint64_t length) {
    for (std::uint64_t page = iova / page_size_; length != 0 && page <= (iova + length - 1) / page_size_; ++page) {
      const bool logged = std::ranges::any_of(ranges_, [&](const IovaRange& range) {
        return page * page_size_ >= range.start.value && page * page_size_ <= range.last().value;
      });
      if (logged) dirty_.insert(page);
    }
  }

  // A page of the log that the range covers in part is reported and cleared whole.
  std::vector<bool> report(IovaRange range, std::uint64_t page_size) {
    std::vector<bool> bits((range.size - 1) / page_size + 1);
    for (auto page = dirty_.begin(); page != dirty_.end();) {
      const std::uint64_t first = std::max(*page * page_size_, range.start.value);
      const std::uint64_t last = std::min((*page + 1) * page_size_ - 1, range.last().value);
      if (first > last) {
        ++page;
        continue;
      }
      for (std::uint64_t bit = (first - range.start.value) / page_size; bit <= (last - range.start.value) / page_size;
           ++bit) {
        bits[bit] = true;
      }
      page = dirty_.erase(page);
    }
    return bits;
  }

 private:
  std::vector<IovaRange> ranges_;
  std::uint64_t page_size_;
  std::set<std::uint64_t> dirty_;
};

std::vector<bool> bits_of(const DirtyReport& report, std::size_t count) {
  std::vector<std::uint64_t> words(report.total_words);
  report.merge_into(words);
  std::vector<bool> bits(report.total_words * 64);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = (words[i / 64] >> (i % 64) & 1) != 0;
  RC_ASSERT(std::none_of(bits.begin() + static_cast<std::ptrdiff_t>(count), bits.end(), [](bool bit) { return bit; }));
  bits.resize(count);
  return bits;
}

void check_extents(const DirtyReport& report) {
  std::size_t end = 0;
  for (const DirtyReport::Extent& extent : report.extents) {
    RC_ASSERT(!extent.words.empty());
    RC_ASSERT(extent.first_word >= end);
    RC_ASSERT(extent.words.front() != 0U);
    RC_ASSERT(extent.words.back() != 0U);
    end = extent.first_word + extent.words.size();
  }
  RC_ASSERT(end <= report.total_words);
}

std::uint64_t any_page_size() { return kPage << *rc::gen::inRange(0, 10); }  // 4 KiB to 2 MiB

std::vector<IovaRange> any_ranges(std::uint64_t page_size) {
  std::vector<IovaRange> ranges;
  std::uint64_t at = 0;
  const int count = *rc::gen::inRange(1, 6);
  for (int i = 0; i < count; ++i) {
    at += *rc::gen::inRange<std::uint64_t>(0, 300) * page_size;
    const std::uint64_t size = *rc::gen::inRange<std::uint64_t>(1, 1500) * page_size;
    ranges.push_back({Iova{at}, size});
    at += size;
  }
  return ranges;
}

// LOG-EXACT, LOG-REPORT
TEST(DmaLogProperty, reports_what_was_marked_and_nothing_else) {
  EXPECT_TRUE(rc::check([] {
    const std::uint64_t page_size = any_page_size();
    const std::vector<IovaRange> ranges = any_ranges(page_size);
    DmaLog log;
    RC_ASSERT(log.start(ranges, page_size).value() == page_size);
    Model model(ranges, page_size);
    const std::uint64_t space = ranges.back().start.value + ranges.back().size + 10 * page_size;
    const int steps = *rc::gen::inRange(1, 12);
    for (int step = 0; step < steps; ++step) {
      const int marks = *rc::gen::inRange(0, 8);
      for (int i = 0; i < marks; ++i) {
        const auto iova = *rc::gen::inRange<std::uint64_t>(0, space);
        const auto length = *rc::gen::oneOf(rc::gen::inRange<std::uint64_t>(0, 2 * page_size),
                                            rc::gen::inRange<std::uint64_t>(0, space));
        log.mark(Iova{iova}, length);
        model.mark(iova, length);
      }
      // Whole pages mostly, as clients ask; any bytes now and then.
      const bool whole = *rc::gen::weightedElement<bool>({{3, true}, {1, false}});
      const std::uint64_t unit = whole ? 64 * page_size : 1;
      const auto first = *rc::gen::inRange<std::uint64_t>(0, space) / unit * unit;
      const auto size = *rc::gen::inRange<std::uint64_t>(1, space);
      const std::uint64_t report_page = *rc::gen::oneOf(rc::gen::just(page_size), rc::gen::exec(any_page_size));
      auto report = log.report({Iova{first}, size}, report_page, kAnySize);
      RC_ASSERT(report.has_value());
      check_extents(*report);
      const std::vector<bool> expected = model.report({Iova{first}, size}, report_page);
      RC_ASSERT(bits_of(*report, expected.size()) == expected);
    }
    // What was never asked for is still there.
    const std::vector<bool> rest = model.report({Iova{0}, space}, kPage);
    RC_ASSERT(bits_of(*log.report({Iova{0}, space}, kPage, kAnySize), rest.size()) == rest);
  }));
}

std::set<std::uint64_t> pages_of(const DirtyReport& report, std::uint64_t first_page) {
  std::set<std::uint64_t> pages;
  for (const DirtyReport::Extent& extent : report.extents) {
    for (std::size_t i = 0; i < extent.words.size(); ++i) {
      for (std::uint64_t word = extent.words[i]; word != 0; word &= word - 1) {
        pages.insert(first_page + (extent.first_word + i) * 64 + static_cast<std::uint64_t>(std::countr_zero(word)));
      }
    }
  }
  return pages;
}

// LOG-EXACT: dirt scattered over a large space, asked for in parts, so that the sides of the bitmap turn over in
// between
TEST(DmaLogProperty, parts_of_a_large_space_add_up) {
  EXPECT_TRUE(rc::check([] {
    constexpr std::uint64_t kPages = std::uint64_t{1} << 21;
    DmaLog log;
    const IovaRange all{Iova{0}, kPages * kPage};
    RC_ASSERT(log.start({&all, 1}, 0).has_value());
    std::set<std::uint64_t> model;
    const int steps = *rc::gen::inRange(2, 10);
    for (int step = 0; step < steps; ++step) {
      const auto stride = *rc::gen::inRange<std::uint64_t>(300, 40'000);
      const auto offset = *rc::gen::inRange<std::uint64_t>(0, 1000);
      const auto until = *rc::gen::inRange<std::uint64_t>(0, kPages);
      for (std::uint64_t page = offset; page < until; page += stride) {
        log.mark(Iova{page * kPage}, 1);
        model.insert(page);
      }
      const std::uint64_t first = *rc::gen::inRange<std::uint64_t>(0, kPages / 64) * 64;
      const auto count = *rc::gen::inRange<std::uint64_t>(1, kPages - first + 1);
      const auto report = log.report({Iova{first * kPage}, count * kPage}, kPage, kAnySize);
      RC_ASSERT(report.has_value());
      check_extents(*report);
      const std::set<std::uint64_t> expected(model.lower_bound(first), model.lower_bound(first + count));
      RC_ASSERT(pages_of(*report, first) == expected);
      model.erase(model.lower_bound(first), model.lower_bound(first + count));
    }
    RC_ASSERT(pages_of(*log.report(all, kPage, kAnySize), 0) == model);
  }));
}

}  // namespace
}  // namespace gangway
