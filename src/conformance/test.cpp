#include "conformance/test.h"

#include <algorithm>
#include <iterator>

#include <fmt/core.h>

namespace gangway::conformance {

std::string with_name(std::string_view text, std::string_view name) {
  return name.empty() ? std::string(text) : fmt::format("{} ({})", text, name);
}

const std::vector<Test>& all_tests() {
  static const std::vector<Test> tests = [] {
    std::vector<Test> all;
    std::vector<Test> last;  // after the safe ones
    for (const auto table :
         {fsm_tests, reset_tests, data_tests, data_descriptor_tests, precopy_tests, stopped_tests, p2p_tests,
          dma_log_tests, v1_tests, region_v2_tests, wire_tests, wire_limit_tests, wire_gone_tests, stream_tests,
          concurrency_tests, exhaustive_tests, sequence_tests, leak_tests}) {
      for (Test& test : table()) (test.unsafe ? last : all).push_back(std::move(test));
    }
    std::ranges::move(last, std::back_inserter(all));
    return all;
  }();
  return tests;
}

}  // namespace gangway::conformance
