// A device's interrupts: eventfds that the client sets, masks, and what is pending.
//
// A device triggers vectors; the client decides by SET_IRQS where they go. A trigger while masked, while no eventfd is
// set, or while the device is stopped is kept pending and delivered when it may be; so none is lost over a migration.
// INTx is a level: asserted until the device deasserts it, signalled once per unmask (AUTOMASKED).
//
// An eventfd is signalled as the kernel does it for its devices, without blocking: one that is full stays full. The
// client's descriptor is left as it is (O_NONBLOCK belongs to the open file, which the client shares). Where a sandbox
// forbids asynchronous I/O (io_setup) a client that fills its blocking eventfd at the very moment holds up its own
// device. Source: Linux vfio.h, struct vfio_irq_info and vfio_irq_set; vfio-user.rst VFIO_USER_DEVICE_SET_IRQS.
//
// Thread-safety: everything here may be called from any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include <gangway/error.h>
#include <gangway/fd.h>
#include <gangway/types.h>

namespace gangway {

inline constexpr std::uint32_t kIrqEventfd = 1U << 0;     // VFIO_IRQ_INFO_EVENTFD
inline constexpr std::uint32_t kIrqMaskable = 1U << 1;    // VFIO_IRQ_INFO_MASKABLE
inline constexpr std::uint32_t kIrqAutomasked = 1U << 2;  // VFIO_IRQ_INFO_AUTOMASKED
inline constexpr std::uint32_t kIrqNoresize = 1U << 3;    // VFIO_IRQ_INFO_NORESIZE

struct IrqInfo {
  std::uint32_t flags = 0;
  std::uint32_t count = 0;
};

enum class IrqAction : std::uint8_t { Mask, Unmask, Trigger };

// One SET_IRQS. Exactly one kind of data: none (`data` NoData), booleans, or descriptors.
struct IrqSet {
  enum class Data : std::uint8_t { None, Bool, Eventfd };
  IrqType type = IrqType::Intx;
  IrqAction action = IrqAction::Trigger;
  Data data = Data::None;
  std::uint32_t start = 0;
  std::uint32_t count = 0;
  std::vector<std::byte> bools;  // Data::Bool: `count` of them
  std::vector<Fd> eventfds;      // Data::Eventfd: `count` (an empty Fd disables), or none at all (disables the range)
};

class Interrupts {
 public:
  // counts[to_number(type)] interrupts of each type.
  explicit Interrupts(std::array<std::uint32_t, kIrqTypes> counts);
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // --- for devices ---
  void trigger(IrqType type, std::uint32_t vector);  // a message: MSI, MSI-X, ERR, REQ. Out of range: ignored.
  void set_intx(bool asserted);                      // the level of INTA#
  // True while the client takes MSI or MSI-X messages: the pin's level reaches nobody.
  [[nodiscard]] bool takes_messages() const;

  // --- for the endpoint ---
  [[nodiscard]] IrqInfo info(IrqType type) const;
  // All of the request or nothing. EINVAL: unknown type, a range beyond its count, data that does not fit the action,
  // a descriptor that is no eventfd. ENOTTY: an action that the type does not have.
  Result<void> set(IrqSet request);

  // While held (STP-QUIET) triggers become pending; releasing delivers them.
  void hold(bool held);

  // Forgets descriptors, masks and what is pending (a client is gone).
  void clear();
  // Forgets what is pending and lowers INTx, keeps the client's setup (a reset).
  void reset();

  // One bit a vector; what a stream carries and the PBA shows. That of INTx is its level.
  [[nodiscard]] std::vector<bool> pending(IrqType type) const;
  void set_pending(IrqType type, const std::vector<bool>& bits);
  [[nodiscard]] bool intx_asserted() const;

 private:
  class EventWatch;
  class Signaller;
  struct Vector {
    Fd trigger;
    bool masked = false;
    bool pending = false;
  };

  Result<void> check(const IrqSet& request) const;
  Result<void> watch_intx(IrqSet request);
  void apply(IrqSet& request);
  void apply_trigger(IrqSet& request, std::size_t index);
  void set_intx_mask(bool masked);
  void signal(const Vector& vector);
  // Under the lock: signals what is pending and may be.
  void deliver(IrqType type, std::size_t index);
  void deliver_all();
  std::vector<Vector>& vectors(IrqType type) { return vectors_[to_number(type)]; }

  mutable std::mutex mutex_;
  std::array<std::vector<Vector>, kIrqTypes> vectors_;
  bool held_ = false;
  bool intx_level_ = false;
  std::unique_ptr<Signaller> signaller_;
  // Threads that wait for the client's eventfds; ended without the lock, which they take.
  std::unique_ptr<EventWatch> intx_mask_event_;
  std::unique_ptr<EventWatch> intx_unmask_event_;
};

}  // namespace gangway
