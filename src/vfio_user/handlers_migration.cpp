#include "vfio_user/handlers.h"

namespace gangway::vfio_user {
namespace {

Result<Migration*> migration_of(Session& session) {
  if (Migration* migration = session.endpoint.migration()) return migration;
  return fail(ENOTSUP, "the device cannot migrate");
}

Result<void> check_size(Session& session, std::string_view what, std::uint32_t size) {
  if (size <= session.offered.max_data_xfer_size) return {};
  return fail(EINVAL,
              fmt::format("{}: {} bytes, at most {} are served", what, size, session.offered.max_data_xfer_size));
}

}  // namespace

Result<void> handle_mig_data_read(Session& session, const Request& request, Answer& answer) {
  const auto asked = fixed_part<MigData>(request);
  if (Result<void> fits = check_size(session, "MIG_DATA_READ", asked.size); !fits) return fits;
  if (Result<void> fits = check_argsz("MIG_DATA_READ", asked.argsz, sizeof asked + asked.size); !fits) return fits;
  const Result<Migration*> migration = migration_of(session);
  if (!migration) return std::unexpected(migration.error());

  const std::span<std::byte> reply = answer.room(sizeof asked + asked.size);
  // The engine fills the room unless the data ends, so a shorter reply means the end (WIR-MIGREAD).
  const Result<StreamRead> read = (*migration)->read(reply.subspan(sizeof asked));
  if (!read) return std::unexpected(read.error());
  if (read->size == 0 && read->end == StreamEnd::Temporary && session.negotiated->server.enomsg) {
    return fail(ENOMSG, "MIG_DATA_READ: nothing to read now", "DAT-EOS-PRECOPY");
  }
  (void)store_at(reply, 0,
                 MigData{.argsz = static_cast<std::uint32_t>(sizeof asked + read->size),
                         .size = static_cast<std::uint32_t>(read->size)});
  answer.shorten(sizeof asked + read->size);
  return {};
}

Result<void> handle_mig_data_write(Session& session, const Request& request, Answer&) {
  const auto asked = fixed_part<MigData>(request);
  if (Result<void> fits = check_size(session, "MIG_DATA_WRITE", asked.size); !fits) return fits;
  const std::span<const std::byte> data = request.body.subspan(sizeof asked);
  if (data.size() != asked.size) {
    return fail(EINVAL, fmt::format("MIG_DATA_WRITE: {} bytes came with {}", asked.size, data.size()), "WIR-FRAME");
  }
  const Result<Migration*> migration = migration_of(session);
  if (!migration) return std::unexpected(migration.error());
  return (*migration)->write(data);
}

}  // namespace gangway::vfio_user
