#include "devices/faulty/faulty_endpoint.h"

#include <algorithm>
#include <utility>

#include "devices/faulty/defect.h"

namespace gangway::faulty {

FaultyEndpoint::FaultyEndpoint(const Defect* defect, std::unique_ptr<DmaLog> log, std::size_t max_dma_maps)
    : Endpoint(std::move(log), max_dma_maps), defect_(defect) {}

Result<std::unique_ptr<FaultyEndpoint>> FaultyEndpoint::create(const Defect* defect, const EndpointOptions& options) {
  const Parts parts = defect != nullptr ? defect->parts : Parts{};
  std::unique_ptr<FaultyLog> log = parts.log != nullptr ? parts.log() : std::make_unique<FaultyLog>();
  const auto make = parts.endpoint != nullptr ? parts.endpoint : Parts::make_endpoint<FaultyEndpoint>;
  std::unique_ptr<FaultyEndpoint> endpoint = make(defect, std::move(log), options.max_dma_maps);
  static_cast<FaultyLog&>(endpoint->log()).attach(*endpoint);
  auto card = parts.card != nullptr ? parts.card() : std::make_unique<Card>();
  if (auto taken = endpoint->take_up(std::move(card), options); !taken) return std::unexpected(taken.error());
  endpoint->resets_ = 0;
  return endpoint;
}

std::unique_ptr<Migration> FaultyEndpoint::make_migration(Migratable& device, MigrationFlags flags,
                                                          Interrupts& interrupts) {
  const MigrationParts parts{*this, device, flags, interrupts};
  if (defect_ != nullptr && defect_->parts.migration != nullptr) return defect_->parts.migration(parts);
  return std::make_unique<FaultyMigration>(parts);
}

Result<std::unique_ptr<RegionFrontEnd>> FaultyEndpoint::make_front_end(Revision revision) {
  if (defect_ == nullptr || defect_->parts.front_end == nullptr) return Endpoint::make_front_end(revision);
  return defect_->parts.front_end(revision, *migration());
}

Result<void> FaultyEndpoint::reset() {
  ++resets_;
  return Endpoint::reset();
}

Result<void> FaultyEndpoint::client_gone() {
  leaving_ = true;
  Result<void> running = Endpoint::client_gone();
  leaving_ = false;
  resets_ = 0;
  ++clients_;
  return running;
}

Result<void> FaultyEndpoint::hang() {
  std::unique_lock lock(mutex_);
  released_changed_.wait(lock, [this] { return released_; });
  return fail(ECANCELED, "hung until the device was taken away");
}

void FaultyEndpoint::release() {
  std::scoped_lock lock(mutex_);
  released_ = true;
  released_changed_.notify_all();
}

Result<StreamRead> FaultyMigration::read(std::span<std::byte> out) {
  StreamRead done;
  do {
    const Result<StreamView> view = read_view(out.size() - done.size);
    if (!view) return std::unexpected(view.error());
    for (const std::span<const std::byte> part : view->parts) {
      const auto fits = part.first(std::min(part.size(), out.size() - done.size));
      std::ranges::copy(fits, out.subspan(done.size).begin());
      done.size += fits.size();
    }
    done.end = view->end;
  } while (done.size < out.size() && done.end == StreamEnd::More);
  return done;
}

Result<void> FaultyMigration::pretend_loaded(std::uint32_t state) {
  if (Result<void> cleared = Migration::reset(); !cleared) return cleared;
  return Migration::set_state(state);
}

}  // namespace gangway::faulty
