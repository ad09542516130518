// Makes the calling process stop for its tracer at the system calls that may have to do with VFIO, and at no others.
//
// Calls of a range of descriptors cannot be told apart by a filter, so reads and writes stop whatever their descriptor
// is; ioctls stop by their type, mappings where they have a descriptor.
#pragma once

#include <gangway/error.h>

namespace gangway::record {

// For the rest of its life, its children's, and the programs they become. ENOSYS on machines other than x86-64 and
// AArch64.
Result<void> install_syscall_filter();

}  // namespace gangway::record
