// What a defect replaces of a good device: its endpoint, its migration engine or region, its DMA log, or the card
// itself. The classes here do all that the good ones do and give a deriving one what it may need to do one thing wrong.
//
// Thread-safety: as what they derive from; release() from any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include <gangway/endpoint.h>

#include "device/region_front_end.h"
#include "devices/faulty/card.h"

namespace gangway::faulty {

struct Defect;

class FaultyEndpoint : public Endpoint {
 public:
  FaultyEndpoint(const Defect* defect, std::unique_ptr<DmaLog> log, std::size_t max_dma_maps);
  // Takes up `defect`'s card; nullptr: the good one. Errors as Endpoint::create().
  static Result<std::unique_ptr<FaultyEndpoint>> create(const Defect* defect, const EndpointOptions& options = {});

  Result<void> reset() override;
  Result<void> client_gone() override;

  // Hangs the caller, and with it its connection, until release(); then ECANCELED.
  Result<void> hang();
  // Lets go of whoever hangs, now and later: before the server is stopped.
  void release();

  [[nodiscard]] Card& card() { return static_cast<Card&>(device()); }
  [[nodiscard]] std::uint64_t resets() const { return resets_; }    // by this client
  [[nodiscard]] std::uint64_t clients() const { return clients_; }  // that went
  [[nodiscard]] bool client_leaving() const { return leaving_; }    // a reset then is not the client's

 protected:
  std::unique_ptr<Migration> make_migration(Migratable& device, MigrationFlags flags, Interrupts& interrupts) override;
  Result<std::unique_ptr<RegionFrontEnd>> make_front_end(Revision revision) override;

 private:
  const Defect* defect_;
  std::uint64_t resets_ = 0;
  std::uint64_t clients_ = 0;
  bool leaving_ = false;
  std::mutex mutex_;
  std::condition_variable released_changed_;
  bool released_ = false;
};

struct MigrationParts {
  FaultyEndpoint& endpoint;
  Migratable& device;
  MigrationFlags flags;
  Interrupts& interrupts;
};

class FaultyMigration : public Migration {
 public:
  explicit FaultyMigration(const MigrationParts& parts)
      : Migration(parts.device, parts.flags, parts.interrupts), endpoint_(parts.endpoint), parts_(parts) {}

  // By read_view(), so that what is wrong there is wrong in every way that a client reads.
  Result<StreamRead> read(std::span<std::byte> out) override;

 protected:
  [[nodiscard]] FaultyEndpoint& endpoint() const { return endpoint_; }
  [[nodiscard]] Card& card() const { return endpoint_.card(); }
  [[nodiscard]] Interrupts& interrupts() const { return parts_.interrupts; }
  [[nodiscard]] DeviceState real_state() const { return Migration::state(); }
  Result<StreamRead> real_read(std::span<std::byte> out) { return Migration::read(out); }  // not by read_view()
  Result<void> go(DeviceState state) { return Migration::set_state(static_cast<std::uint32_t>(state)); }
  // Drops what is being loaded and goes on as if it had been: the device is as after a reset.
  Result<void> pretend_loaded(std::uint32_t state);

 private:
  FaultyEndpoint& endpoint_;
  MigrationParts parts_;
};

class FaultyLog : public DmaLog {
 public:
  void attach(FaultyEndpoint& endpoint) { endpoint_ = &endpoint; }

 protected:
  [[nodiscard]] FaultyEndpoint& endpoint() const { return *endpoint_; }

 private:
  FaultyEndpoint* endpoint_ = nullptr;
};

}  // namespace gangway::faulty
