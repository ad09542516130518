#include "vfio_user/handlers.h"

namespace gangway::vfio_user {
namespace {

// For a client that moves data, by v2.
Result<Migration*> migration_of(Session& session) {
  if (!session.endpoint.exposes(Revision::V2)) return fail(ENOTSUP, "the device cannot migrate");
  if (Result<void> free = session.endpoint.drive(Revision::V2); !free) return std::unexpected(free.error());
  return session.endpoint.migration();
}

Result<void> check_size(Session& session, std::string_view what, std::uint32_t size) {
  if (size <= session.offered.max_data_xfer_size) return {};
  return fail(EINVAL,
              fmt::format("{}: {} bytes, at most {} are served", what, size, session.offered.max_data_xfer_size));
}

Result<void> check_write(Session& session, const Request& request) {
  const std::optional<MigData> asked = load_at<MigData>(request.body);
  if (!asked) return fail(EINVAL, "MIG_DATA_WRITE: without a size", "WIR-FRAME");
  if (Result<void> fits = check_size(session, "MIG_DATA_WRITE", asked->size); !fits) return fits;
  const std::size_t came = request.body.size() - sizeof *asked + request.placed.size();
  if (came == asked->size) return {};
  return fail(EINVAL, fmt::format("MIG_DATA_WRITE: {} bytes came with {}", asked->size, came), "WIR-FRAME");
}

}  // namespace

Result<void> handle_mig_data_read(Session& session, const Request& request, Answer& answer) {
  const auto asked = fixed_part<MigData>(request);
  if (Result<void> fits = check_size(session, "MIG_DATA_READ", asked.size); !fits) return fits;
  if (Result<void> fits = check_argsz("MIG_DATA_READ", asked.argsz, sizeof asked + asked.size); !fits) return fits;
  const Result<Migration*> migration = migration_of(session);
  if (!migration) return std::unexpected(migration.error());

  // The engine fills what was asked for unless the data ends, so a shorter reply means the end (WIR-MIGREAD).
  Result<StreamView> view = (*migration)->read_view(asked.size);
  if (!view) return std::unexpected(view.error());
  if (view->size == 0 && view->end == StreamEnd::Temporary && session.negotiated->server.enomsg) {
    return fail(ENOMSG, "MIG_DATA_READ: nothing to read now", "DAT-EOS-PRECOPY");
  }
  answer.put(MigData{.argsz = static_cast<std::uint32_t>(sizeof asked + view->size),
                     .size = static_cast<std::uint32_t>(view->size)});
  for (const std::span<const std::byte> part : view->parts) answer.refer(part);
  answer.keep(std::move(view->owner));
  return {};
}

Result<void> handle_mig_data_write(Session& session, const Request& request, Answer&) {
  const Result<Migration*> migration = migration_of(session);
  if (!migration) return std::unexpected(migration.error());
  const Result<void> sound = check_write(session, request);
  if (!sound) {
    (*migration)->refuse_load(sound.error());  // what it should have brought is missing from the stream
    return sound;
  }
  if (!request.placed.empty()) return (*migration)->landed(request.placed.size());
  return (*migration)->write(request.body.subspan(sizeof(MigData)));
}

std::span<std::byte> landing_for(Session& session, const Header& header) {
  constexpr std::size_t kBeforeData = sizeof(Header) + sizeof(MigData);
  if (static_cast<Command>(header.command) != Command::MigDataWrite || !session.negotiated) return {};
  if (!session.endpoint.look(Revision::V2) || header.size <= kBeforeData) return {};
  const std::size_t size = header.size - kBeforeData;
  const Result<std::span<std::byte>> landing = session.endpoint.migration()->landing(size);
  if (!landing || landing->size() != size) return {};
  return *landing;
}

}  // namespace gangway::vfio_user
