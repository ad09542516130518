// The faults of the wire: how each changes the messages that pass.
#pragma once

#include <memory>

#include "devices/faulty/wire_fault.h"
#include "vfio_user/message_relay.h"

namespace gangway::faulty {

// For one connection. WireFault::None: one that changes nothing.
std::unique_ptr<vfio_user::MessageEditor> make_editor(WireFault fault);

}  // namespace gangway::faulty
