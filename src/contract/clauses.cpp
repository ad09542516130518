#include <algorithm>

#include <gangway/contract.h>

namespace gangway::contract {
namespace {

// Identifiers are stable: a rule that changes meaning gets a new one.
constexpr Clause kClauses[] = {
    {"FSM-INITIAL", "a freshly opened device is RUNNING, whatever the last user left it in",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state"},
    {"FSM-ARC",
     "each pair goes over exactly the path above, for each flag set; asking for the state one is in is a no-op",
     "Linux drivers/vfio/vfio_main.c, vfio_mig_get_next_state"},
    {"FSM-BLOCKED", "STOP_COPY→PRE_COPY and →PRE_COPY_P2P are EINVAL, in bounded time, state unchanged",
     "Linux drivers/vfio/vfio_main.c, vfio_mig_get_next_state"},
    {"FSM-INVALID",
     "ERROR, a state the device does not advertise, or a number ≥ 8 is EINVAL, state unchanged, and the device still "
     "migrates afterwards",
     "Linux drivers/vfio/vfio_main.c, vfio_ioctl_device_feature_mig_device_state"},
    {"FSM-COMPLETE", "the new state is fully reached before the reply; nothing but a SET or a reset changes the state",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state"},
    {"FSM-FAIL",
     "a failed SET leaves the device in some state on the path; GET tells which; the user may reset, go back, or go to "
     "STOP or RUNNING",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state"},
    {"FSM-ERROR",
     "ERROR is entered only when no valid state could be kept; every SET there fails; only reset leaves it",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state"},
    {"FSM-REPEAT", "cancel at any point and migrate again, any number of times; A→B→A works",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state"},
    {"RST-NOT-REQUIRED",
     "RESUMING needs no prior reset: fresh, after traffic, after a save, after a cancelled save; with 0, 1 or 2 "
     "resets; stepwise or RUNNING→RESUMING in one call. The device clears itself",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state and VFIO_DEVICE_RESET"},
    {"RST-ALLOWED", "a reset is legal in every state at any time, and leads to RUNNING",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state and VFIO_DEVICE_RESET"},
    {"RST-CLEARS",
     "after it there is no open data session (old data descriptors fail), no cached verdict about a stream, no "
     "half-loaded state; the DMA log follows its own rules",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state and VFIO_DEVICE_RESET"},
    {"RST-ABORTS", "it aborts RESUMING; a full valid stream is the only other way out",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state and VFIO_DEVICE_RESET"},
    {"RST-CONCURRENT", "a reset during a SET, a read or a write neither deadlocks nor leaves a mixed state",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state and VFIO_DEVICE_RESET"},
    {"DAT-SESSION",
     "one session per stay in the saving group (PRE_COPY, PRE_COPY_P2P, STOP_COPY share it), one per RESUMING; it ends "
     "on leaving, on reset, on last close; a reader blocked in it is woken",
     "Linux include/uapi/linux/vfio.h, struct vfio_device_feature_mig_state"},
    {"DAT-STREAM",
     "the stream is opaque and ordered; segmentation is not kept: any read and write sizes, 1 byte upward, give the "
     "same result",
     "Linux include/uapi/linux/vfio.h, struct vfio_device_feature_mig_state"},
    {"DAT-EOS-STOP", "in STOP_COPY the end reads as 0 bytes, for ever, and never as ENOMSG",
     "Linux include/uapi/linux/vfio.h, VFIO_MIG_GET_PRECOPY_INFO"},
    {"DAT-EOS-PRECOPY",
     "in PRE_COPY and PRE_COPY_P2P a temporary end is ENOMSG, never 0 (over vfio-user: to a peer that negotiated it; "
     "see WIR-MIGREAD)",
     "Linux include/uapi/linux/vfio.h, VFIO_MIG_GET_PRECOPY_INFO"},
    {"DAT-EARLY", "pre-copy may be left at any moment, drained or not",
     "Linux include/uapi/linux/vfio.h, struct vfio_device_feature_mig_state"},
    {"DAT-DIRECTION",
     "reading in RESUMING, writing in the saving group, either in any other state: an error, nothing changed",
     "Linux include/uapi/linux/vfio.h, struct vfio_device_feature_mig_state"},
    {"DAT-VALIDATE",
     "RESUMING→STOP fails for an empty, truncated, extended, bit-flipped, reordered or foreign stream, and for one in "
     "which a write failed; writes may refuse earlier",
     "Linux include/uapi/linux/vfio.h, struct vfio_device_feature_mig_state"},
    {"DAT-IDENTITY",
     "identity and compatibility come first in the stream, in pre-copy too, so that a wrong destination is refused "
     "early",
     "Linux drivers/vfio/pci drivers, match data in PRE_COPY"},
    {"DAT-FD",
     "(kernel) data_fd is −1 whenever no session starts, and on every failure; close-on-exec; not seekable; closing it "
     "does not change the state",
     "Linux include/uapi/linux/vfio.h, struct vfio_device_feature_mig_state"},
    {"DAT-SIZE", "MIG_DATA_SIZE answers in every state; an estimate, but of the order of what is then read",
     "Linux include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_MIG_DATA_SIZE"},
    {"PRE-INFO-STATE", "GET_PRECOPY_INFO in any state but PRE_COPY and PRE_COPY_P2P is EINVAL",
     "Linux include/uapi/linux/vfio.h, VFIO_MIG_GET_PRECOPY_INFO"},
    {"PRE-INFO-INITIAL",
     "initial_bytes starts above 0 and falls as data is read; dirty_bytes starts at 0, grows with change",
     "Linux include/uapi/linux/vfio.h, VFIO_MIG_GET_PRECOPY_INFO"},
    {"PRE-INFO-EMPTY", "both 0 exactly when a read gives ENOMSG",
     "Linux include/uapi/linux/vfio.h, VFIO_MIG_GET_PRECOPY_INFO"},
    {"PRE-INFO-V2",
     "after opting in (feature 12) flags is output only; REINIT announces new initial data; the opt-in ends with the "
     "last close; without PRE_COPY it is EINVAL",
     "Linux include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2"},
    {"STP-QUIET", "in STOP, STOP_COPY, RESUMING the device does no DMA, raises no interrupt, changes no state",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state, STOP"},
    {"STP-CONFIG",
     "in them config space and interrupt setup still answer; restoring config before or after the data load both work",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state, STOP"},
    {"STP-ACCESS", "any other access in them harms nobody but the caller",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state, STOP"},
    {"P2P-INITIATE",
     "in RUNNING_P2P and PRE_COPY_P2P the device starts no DMA; what was outstanding is done before the arc returns; "
     "incoming accesses are served",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state, peer to peer"},
    {"P2P-ORDER",
     "with several devices every order of steps within a phase works: all to P2P before any to STOP, all to P2P before "
     "any to RUNNING",
     "Linux include/uapi/linux/vfio.h, enum vfio_device_mig_state, peer to peer"},
    {"LOG-START",
     "0 ranges EINVAL; too many E2BIG; misaligned or overlapping EINVAL; wrap EOVERFLOW; page_size is a hint, the one "
     "used is written back; a second START fails",
     "Linux include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_DMA_LOGGING_*"},
    {"LOG-REPORT",
     "page_size a power of two ≥ 4096, may differ from START's; any sub-range; sets bits and never clears the "
     "caller's; clears the device's; without START an error; u64 little-endian words, bit n is iova + n·page_size",
     "Linux include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_DMA_LOGGING_*"},
    {"LOG-EXACT",
     "every page the device wrote since the last report is set (none lost, under load, across state changes and "
     "map/unmap); pages not written are not set",
     "Linux include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_DMA_LOGGING_*"},
    {"LOG-ERROR", "after any error the log counts as corrupt: all dirty",
     "Linux include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_DMA_LOGGING_*"},
    {"V1-HIDDEN", "by default no v1 region exists; a v1 client finds none, reports it and keeps its device working",
     "Linux 5.8-5.17 include/uapi/linux/vfio.h, struct vfio_device_migration_info"},
    {"V1-ONE", "a client uses one revision in a connection: the first it drives; any other then answers EBUSY",
     "Linux 5.8-5.17 include/uapi/linux/vfio.h, struct vfio_device_migration_info"},
    {"V1-STATES",
     "000 stop, 001 running (default), 010 stop-and-copy, 011 pre-copy, 100 resuming are valid; 101 and 111 are "
     "refused; 110 is only ever reported; reset leaves it",
     "Linux 5.8-5.17 include/uapi/linux/vfio.h, struct vfio_device_migration_info"},
    {"V1-SAVE",
     "read pending_bytes (repeatable), data_offset (stages), data_size, copy; the next pending_bytes read "
     "acknowledges; re-reads within an iteration agree",
     "Linux 5.8-5.17 include/uapi/linux/vfio.h, struct vfio_device_migration_info"},
    {"V1-LOAD",
     "read data_offset, write the chunk there, write data_size to commit; accesses as small as naturally aligned 8 "
     "bytes",
     "Linux 5.8-5.17 include/uapi/linux/vfio.h, struct vfio_device_migration_info"},
    {"V1-CHANGE", "changing state in the middle of an iteration ends it cleanly",
     "Linux 5.8-5.17 include/uapi/linux/vfio.h, struct vfio_device_migration_info"},
    {"R2-FOUND",
     "found by the region-type capability with sub-type 2; a client that knows only sub-type 1 finds no migration "
     "interface",
     "gangway docs/compatibility.md, region-v2"},
    {"R2-LAYOUT", "header as v1; device_state holds a v2 state number, 32 bits, read and written whole; no bits",
     "gangway docs/compatibility.md, region-v2"},
    {"R2-STATES",
     "a write of device_state is a SET of v2: same paths, refusals and errors, errno as the access's result; a read is "
     "a GET",
     "gangway docs/compatibility.md, region-v2"},
    {"R2-DATA",
     "iteration as V1-SAVE and V1-LOAD, one session per stay as DAT-SESSION; pending_bytes 0 in pre-copy is a "
     "temporary end, in STOP_COPY the end; segmentation is not significant",
     "gangway docs/compatibility.md, region-v2"},
    {"WIR-NEGOTIATE",
     "a reply without JSON, {}, unknown keys and any minor version are handled; limits of the peer (descriptors, "
     "transfer size, DMA maps, page sizes) are kept",
     "QEMU docs/interop/vfio-user.rst, VFIO_USER_VERSION"},
    {"WIR-FRAME",
     "header and body may arrive split at any byte; bad size, type, command or argsz: error reply or clean close, "
     "never out of step",
     "QEMU docs/interop/vfio-user.rst"},
    {"WIR-FDS",
     "descriptors on any message: taken if expected, closed if not, never leaked; truncated control data closes the "
     "connection",
     "QEMU docs/interop/vfio-user.rst"},
    {"WIR-NOREPLY", "NO_REPLY is honoured in both directions", "QEMU docs/interop/vfio-user.rst"},
    {"WIR-REPLY",
     "a reply never exceeds what the client can take (its argsz); the 16-byte header leaves in one write with its body",
     "QEMU docs/interop/vfio-user.rst"},
    {"WIR-MIGREAD",
     "a MIG_DATA_READ reply is as long as asked unless the data ends there: a shorter one (down to 0) means the end, "
     "the temporary one in pre-copy too, for a peer that did not negotiate ENOMSG",
     "QEMU docs/interop/vfio-user.rst, VFIO_USER_MIG_DATA_READ"},
    {"WIR-SHAPE",
     "replies have the payload that the specification gives and no other: none for DMA_MAP, RESET, SET_IRQS, "
     "MIG_DATA_WRITE; DEVICE_FEATURE SET echoes its request",
     "QEMU docs/interop/vfio-user.rst"},
    {"WIR-GONE",
     "a client that vanishes at any byte leaves the device free for the next one, RUNNING, its mappings, interrupts "
     "and DMA log gone",
     "QEMU docs/interop/vfio-user.rst, Client Disconnection"},
};

}  // namespace

std::span<const Clause> clauses() { return kClauses; }

const Clause* find_clause(std::string_view id) {
  const Clause* found = std::ranges::find(kClauses, id, &Clause::id);
  return found == std::end(kClauses) ? nullptr : found;
}

}  // namespace gangway::contract
