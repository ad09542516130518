// Register offsets and bits of a 16550A.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gangway::serial {

enum Register : std::size_t {
  kData = 0,                     // RBR, THR; DLL while DLAB
  kInterruptEnable = 1,          // IER; DLM while DLAB
  kInterruptIdentification = 2,  // IIR read, FCR written
  kLineControl = 3,
  kModemControl = 4,
  kLineStatus = 5,
  kModemStatus = 6,
  kScratch = 7,
};

inline constexpr std::uint8_t kIerReceived = 0x01;
inline constexpr std::uint8_t kIerTransmitterEmpty = 0x02;
inline constexpr std::uint8_t kIerLineStatus = 0x04;
inline constexpr std::uint8_t kIerModemStatus = 0x08;
inline constexpr std::uint8_t kIerMask = 0x0f;

// By falling priority.
inline constexpr std::uint8_t kIirLineStatus = 0x06;
inline constexpr std::uint8_t kIirReceived = 0x04;
inline constexpr std::uint8_t kIirCharacterTimeout = 0x0c;
inline constexpr std::uint8_t kIirTransmitterEmpty = 0x02;
inline constexpr std::uint8_t kIirModemStatus = 0x00;
inline constexpr std::uint8_t kIirNone = 0x01;
inline constexpr std::uint8_t kIirFifosEnabled = 0xc0;

inline constexpr std::uint8_t kFcrEnable = 0x01;
inline constexpr std::uint8_t kFcrClearReceived = 0x02;
inline constexpr std::uint8_t kFcrClearTransmitting = 0x04;
inline constexpr std::uint8_t kFcrKept = 0xc9;  // enable, DMA mode, trigger level
inline constexpr unsigned kFcrTriggerShift = 6;

inline constexpr std::uint8_t kLcrDivisorLatch = 0x80;

inline constexpr std::uint8_t kMcrDtr = 0x01;
inline constexpr std::uint8_t kMcrRts = 0x02;
inline constexpr std::uint8_t kMcrOut1 = 0x04;
inline constexpr std::uint8_t kMcrOut2 = 0x08;
inline constexpr std::uint8_t kMcrLoopback = 0x10;
inline constexpr std::uint8_t kMcrMask = 0x1f;

inline constexpr std::uint8_t kLsrDataReady = 0x01;
inline constexpr std::uint8_t kLsrOverrun = 0x02;
inline constexpr std::uint8_t kLsrTransmitterHoldingEmpty = 0x20;
inline constexpr std::uint8_t kLsrTransmitterEmpty = 0x40;

inline constexpr std::uint8_t kMsrTrailingRi = 0x04;
inline constexpr std::uint8_t kMsrChanges = 0x0f;
inline constexpr std::uint8_t kMsrCts = 0x10;
inline constexpr std::uint8_t kMsrDsr = 0x20;
inline constexpr std::uint8_t kMsrRi = 0x40;
inline constexpr std::uint8_t kMsrDcd = 0x80;

}  // namespace gangway::serial
