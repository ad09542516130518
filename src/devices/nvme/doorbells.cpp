#include "devices/nvme/doorbells.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <utility>

namespace gangway::nvme {

Result<Doorbells> Doorbells::create(std::uint64_t bar_size) {
  Fd file(::memfd_create("nvme-doorbells", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return fail_errno("create the doorbell page");
  if (::ftruncate(file.get(), static_cast<off_t>(bar_size)) != 0) return fail_errno("size the doorbell page");
  // The client gets this descriptor: without the seals it could shrink the file and kill the I/O thread by SIGBUS.
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return fail_errno("seal the doorbell page");
  }
  void* page = ::mmap(nullptr, kDoorbellPage, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), kDoorbellOffset);
  if (page == MAP_FAILED) return fail_errno("map the doorbell page");
  return Doorbells(std::move(file), {static_cast<std::uint32_t*>(page), kDoorbellPage / sizeof(std::uint32_t)});
}

Doorbells::Doorbells(Doorbells&& other) noexcept
    : file_(std::move(other.file_)), words_(std::exchange(other.words_, {})) {}

Doorbells::~Doorbells() {
  if (!words_.empty()) ::munmap(words_.data(), words_.size_bytes());
}

// Sequentially consistent, with the I/O thread's sleeping flag: either the thread sees the word or the writer sees that
// the thread sleeps.
std::uint32_t Doorbells::load(std::size_t word) const {
  return std::atomic_ref(words_[word]).load(std::memory_order_seq_cst);
}

void Doorbells::store(std::size_t word, std::uint32_t value) {
  std::atomic_ref(words_[word]).store(value, std::memory_order_seq_cst);
}

void Doorbells::replace(std::size_t word, std::uint32_t seen, std::uint32_t value) {
  std::atomic_ref(words_[word]).compare_exchange_strong(seen, value);
}

void Doorbells::clear() {
  for (std::size_t word = 0; word < words_.size(); ++word) store(word, 0);
}

}  // namespace gangway::nvme
