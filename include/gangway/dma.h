// The client's memory as the device reaches it: IOVA to mapped memory, bounds and permission checked, writes logged.
//
// A device asks for bytes at an IOVA and need not know how the client shares its memory: memory that came with
// a descriptor is mapped and reached directly, other memory by DMA_READ and DMA_WRITE messages. A device that hands
// memory to the kernel (io_uring) pins it: unmapping waits until every pin is released, and releasing a pin for writing
// marks the log, so that no page written is lost (LOG-EXACT).
//
// A file that its owner shrinks after mapping it does not kill the process: the fault is caught, the mapping reads as
// zeros from then on and the space is marked failed(), upon which the server drops the client.
//
// Source: QEMU docs/interop/vfio-user.rst, "Client memory access", VFIO_USER_DMA_MAP, VFIO_USER_DMA_UNMAP.
// Thread-safety: everything here may be called from any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>
#include <type_traits>
#include <vector>

#include <gangway/dma_log.h>
#include <gangway/error.h>
#include <gangway/fd.h>
#include <gangway/types.h>

namespace gangway {

enum class DmaAccess : std::uint8_t { Read, Write };  // the device reads, or writes, the client's memory

struct DmaPermissions {
  bool read = false;
  bool write = false;
  friend bool operator==(DmaPermissions, DmaPermissions) = default;
};

// Reaches client memory that has no descriptor. Implemented by the wire. Calls block until the client answered (EPROTO
// for a wrong answer, the errno that it refused with), its time limit passed (ETIMEDOUT), or the connection ended (with
// its reason: ECONNRESET, EPIPE, ECANCELED when the server stops). ENOTSUP for a client that takes no such messages.
// Thread-safe.
class DmaMessenger {
 public:
  virtual ~DmaMessenger() = default;
  virtual Result<void> dma_read(Iova iova, std::span<std::byte> out) = 0;
  virtual Result<void> dma_write(Iova iova, std::span<const std::byte> in) = 0;
  // The client waits for a reset, or for memory to be unmapped, and may be unable to answer before that is done. So
  // calls under way and those made meanwhile fail with ECANCELED when a short grace is over, which is one for all. What
  // they asked for the client may still carry out: like a posted write on a bus, it has left the device.
  virtual void begin_grace() = 0;
  virtual void end_grace() = 0;
};

class DmaSpace;

namespace detail {
class DmaMapping;
class MapShare;
}  // namespace detail

// Direct access to a piece of client memory, for as long as it lives. Move-only. Keep it short: the client's
// DMA_UNMAP waits for it.
class DmaPin {
 public:
  DmaPin() = default;
  DmaPin(DmaPin&& other) noexcept;
  DmaPin& operator=(DmaPin&& other) noexcept;
  DmaPin(const DmaPin&) = delete;
  DmaPin& operator=(const DmaPin&) = delete;
  ~DmaPin();  // releases; a pin for writing marks [iova, iova + size) in the log first

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  [[nodiscard]] Iova iova() const { return iova_; }
  void release();

 private:
  friend class DmaSpace;
  DmaSpace* space_ = nullptr;
  detail::DmaMapping* mapping_ = nullptr;  // outlives the pin: unmapping waits for it
  std::span<std::byte> bytes_;
  Iova iova_;
  DmaAccess access_ = DmaAccess::Read;
};

class DmaSpace {
 public:
  static constexpr std::size_t kDefaultMaxMaps = 60'000;  // below the kernel's default vm.max_map_count

  // `max_maps` is the most it ever has; see max_maps().
  explicit DmaSpace(DmaLog& log, std::size_t max_maps = kDefaultMaxMaps);
  ~DmaSpace();
  DmaSpace(const DmaSpace&) = delete;
  DmaSpace& operator=(const DmaSpace&) = delete;

  // --- for devices ---

  // Copies. The range may cross mappings. EFAULT when a byte is not mapped or not permitted (nothing before it
  // is undone); the messenger's errors for memory without a descriptor.
  Result<void> read(Iova iova, std::span<std::byte> out);
  Result<void> write(Iova iova, std::span<const std::byte> in);

  // Contiguous direct access. EFAULT as above; ENOTSUP when the range crosses mappings or has no
  // descriptor (use read/write with a buffer). A range that is being unmapped counts as not mapped.
  Result<DmaPin> pin(Iova iova, std::size_t length, DmaAccess access);

  // --- for the endpoint ---

  struct MapRequest {
    IovaRange range;
    DmaPermissions permissions;
    Fd file;                   // empty: reached by messages
    std::uint64_t offset = 0;  // bytes into the file
  };
  // Errors: EINVAL (empty, wrapping, misaligned to 4096; a descriptor that is no mappable file; a file shorter than the
  // mapping), EACCES (the descriptor is not open for what the permissions say, or its file is sealed against it),
  // EEXIST (overlaps a mapping), ENOSPC (more than max_maps()), ENOMEM. A mapping without permissions is kept but not
  // accessible.
  Result<void> map(MapRequest request);

  // The range must be that of one mapping (ENOENT otherwise). Returns when no pin on it is left and no access to it is
  // under way, by messages neither: those have the messenger's grace. What the device wrote is in the log then.
  Result<void> unmap(IovaRange range);
  // Also forgets failed(): nothing is left that could have failed.
  void unmap_all();

  [[nodiscard]] std::size_t map_count() const;
  // How many mappings there may be. The kernel has a limit for all of a process (vm.max_map_count), of which every
  // space of the process has its share: this is the space's, or what it was made for if that is less. Fixed when it is
  // first asked for or something is mapped, so that it may be promised to a client, until release_share().
  [[nodiscard]] std::size_t max_maps() const;
  // The client to which max_maps() was promised is gone, and with unmap_all() all that it mapped.
  void release_share();
  [[nodiscard]] std::vector<IovaRange> ranges() const;

  // Whom to ask for memory without a descriptor; nullptr: nobody (EFAULT). Waits for calls in progress, so it must
  // not be called from one.
  void set_messenger(DmaMessenger* messenger);

  // Runs a reset: meanwhile no access waits long for the messenger. Not from within a call of the messenger.
  template <class Reset>
  std::invoke_result_t<Reset> during_reset(Reset reset) {
    const Grace until_done(*this);
    return reset();
  }

  // True once a mapped file turned out shorter than promised (its mapping reads as zeros from then on).
  [[nodiscard]] bool failed() const;

  // True once the device reached for memory since the last unmap_all().
  [[nodiscard]] bool used() const { return used_.load(std::memory_order_relaxed); }

  [[nodiscard]] DmaLog& log() { return log_; }

 private:
  friend class DmaPin;
  class Piece;
  class Grace {
   public:
    explicit Grace(DmaSpace& space);
    ~Grace();
    Grace(const Grace&) = delete;
    Grace& operator=(const Grace&) = delete;

   private:
    DmaSpace& space_;
  };

  Result<Piece> find(Iova iova, std::uint64_t length, DmaAccess access);
  detail::DmaMapping* lookup(std::uint64_t iova);
  template <class Copy>
  Result<void> for_each_piece(Iova iova, std::uint64_t length, DmaAccess access, Copy&& copy);
  template <class Call>
  Result<void> ask_client(Iova iova, Call&& call);
  [[nodiscard]] Result<void> check_room(const IovaRange& range) const;
  void unpin(detail::DmaMapping& mapping);
  template <class Mappings>
  void wait_for_pins(const Mappings& mappings);

  // Accesses share, mapping and unmapping exclude. A writer holds the turnstile while it waits, so that a stream of
  // readers cannot keep it out.
  [[nodiscard]] std::shared_lock<std::shared_mutex> lock_shared() const;
  [[nodiscard]] std::unique_lock<std::shared_mutex> lock_exclusive();

  DmaLog& log_;
  const std::unique_ptr<detail::MapShare> share_;
  mutable std::shared_mutex mutex_;
  mutable std::mutex turnstile_;
  std::atomic<unsigned> writers_{0};
  std::map<std::uint64_t, std::unique_ptr<detail::DmaMapping>> mappings_;  // by start
  std::atomic<detail::DmaMapping*> last_used_{nullptr};                    // one of mappings_, or nullptr
  std::atomic<bool> failed_{false};
  std::atomic<bool> used_{false};

  std::mutex pins_mutex_;
  std::condition_variable unpinned_;

  std::mutex messenger_mutex_;
  std::condition_variable messenger_idle_;
  DmaMessenger* messenger_ = nullptr;
  std::size_t messenger_calls_ = 0;
  std::size_t graces_ = 0;  // the first begins it, the last ends it
};

}  // namespace gangway
