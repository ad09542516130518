// The faulty devices: each is the good card with one thing done wrong, and repeats a kind of defect that real drivers,
// device servers and their first versions had. They are what the conformance suite is tested with: one that it does not
// catch shows a hole in it.
//
// Thread-safety: everything here is constant.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "devices/faulty/faulty_endpoint.h"
#include "devices/faulty/wire_fault.h"

namespace gangway::faulty {

// How what is replaced is made; nullptr: the good part.
struct Parts {
  std::unique_ptr<Card> (*card)() = nullptr;
  std::unique_ptr<Migration> (*migration)(const MigrationParts&) = nullptr;
  std::unique_ptr<FaultyLog> (*log)() = nullptr;
  std::unique_ptr<FaultyEndpoint> (*endpoint)(const Defect*, std::unique_ptr<DmaLog>, std::size_t) = nullptr;
  Result<std::unique_ptr<RegionFrontEnd>> (*front_end)(Revision, Migration&) = nullptr;
  WireFault wire = WireFault::None;

  template <class T>
  static std::unique_ptr<Card> make_card() {
    return std::make_unique<T>();
  }
  template <class T>
  static std::unique_ptr<Migration> make_migration(const MigrationParts& parts) {
    return std::make_unique<T>(parts);
  }
  template <class T>
  static std::unique_ptr<FaultyLog> make_log() {
    return std::make_unique<T>();
  }
  template <class T>
  static std::unique_ptr<FaultyEndpoint> make_endpoint(const Defect* defect, std::unique_ptr<DmaLog> log,
                                                       std::size_t max_dma_maps) {
    return std::make_unique<T>(defect, std::move(log), max_dma_maps);
  }
};
template <class T>
inline constexpr Parts kFaultyCard{.card = Parts::make_card<T>};
template <class T>
inline constexpr Parts kFaultyMigration{.migration = Parts::make_migration<T>};
template <class T>
inline constexpr Parts kFaultyLog{.log = Parts::make_log<T>};
template <class T>
inline constexpr Parts kFaultyFrontEnd{.front_end = RegionFrontEnd::create<T>};
template <class T>
inline constexpr Parts kFaultyEndpoint{.endpoint = Parts::make_endpoint<T>};

template <WireFault fault>
inline constexpr Parts kFaultyWire{.wire = fault};

// With which flags a device shows the defect.
enum class Shows : std::uint8_t { Always, WithP2p, WithPreCopy, WithoutAll };

struct Defect {
  std::string_view name;
  std::string_view clauses;  // that it breaks, the main one first, separated by spaces
  std::string_view text;     // what it does wrong
  std::string_view seen;     // where the kind was seen; "kind: ..." where no single case is cited
  Parts parts;
  Shows shows = Shows::Always;
  Revisions through{};  // what the device exposes when nobody says otherwise: that by which the defect shows

  [[nodiscard]] std::string_view clause() const { return clauses.substr(0, clauses.find(' ')); }
  [[nodiscard]] bool shown_with(MigrationFlags flags) const;
};

// All of them, in the order of the contract.
[[nodiscard]] std::span<const Defect> defects();
[[nodiscard]] const Defect* find_defect(std::string_view name);

// By what they break; each in a file of its own.
[[nodiscard]] std::vector<Defect> state_machine_defects();
[[nodiscard]] std::vector<Defect> reset_defects();
[[nodiscard]] std::vector<Defect> session_defects();
[[nodiscard]] std::vector<Defect> stream_defects();
[[nodiscard]] std::vector<Defect> pre_copy_defects();
[[nodiscard]] std::vector<Defect> stopped_defects();
[[nodiscard]] std::vector<Defect> dma_log_defects();
[[nodiscard]] std::vector<Defect> wire_defects();
[[nodiscard]] std::vector<Defect> region_defects();
[[nodiscard]] std::vector<Defect> region_data_defects();

}  // namespace gangway::faulty
