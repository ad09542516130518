// The doorbell registers: a page of 32-bit words in a memfd, so that a client may map and write them directly.
//
// A word holds what the host wrote last: the tail of a submission queue, the head of a completion queue. A write by
// message and a write through the mapping are the same store; only who notices it differs.
// Source: NVM Express 1.4, 3.1.24 and 3.1.25 (doorbell stride 0).
//
// Thread-safety: words are atomic. The client may scribble on them at any time: every value is checked where it is
// used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <gangway/error.h>
#include <gangway/fd.h>

namespace gangway::nvme {

inline constexpr std::uint64_t kDoorbellOffset = 0x1000;  // into BAR 0
inline constexpr std::uint64_t kDoorbellPage = 0x1000;    // bytes

[[nodiscard]] constexpr std::size_t sq_tail_word(std::uint16_t queue) { return std::size_t{queue} * 2; }
[[nodiscard]] constexpr std::size_t cq_head_word(std::uint16_t queue) { return (std::size_t{queue} * 2) + 1; }

class Doorbells {
 public:
  static Result<Doorbells> create(std::uint64_t bar_size);
  Doorbells(Doorbells&& other) noexcept;
  Doorbells& operator=(Doorbells&&) = delete;
  Doorbells(const Doorbells&) = delete;
  Doorbells& operator=(const Doorbells&) = delete;
  ~Doorbells();

  // As large as the BAR; the page lies at kDoorbellOffset.
  [[nodiscard]] const Fd& file() const { return file_; }

  [[nodiscard]] std::uint32_t load(std::size_t word) const;
  void store(std::size_t word, std::uint32_t value);
  // Stores `value` unless the client stored something else since `seen`.
  void replace(std::size_t word, std::uint32_t seen, std::uint32_t value);
  void clear();

 private:
  Doorbells(Fd file, std::span<std::uint32_t> words) : file_(std::move(file)), words_(words) {}
  Fd file_;
  std::span<std::uint32_t> words_;
};

}  // namespace gangway::nvme
