#include "record/codec.h"

#include <cstring>
#include <string_view>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/json_text.h"

namespace gangway::record {
namespace {

using nlohmann::json;

constexpr std::uint16_t kCut = 1U << 0;
constexpr std::uint16_t kBySharing = 1U << 1;
constexpr std::uint16_t kHashKnown = 1U << 2;

// Writes fields one behind the other, without gaps.
class FieldWriter {
 public:
  explicit FieldWriter(std::vector<std::byte>& bytes) : bytes_(bytes) { bytes_.clear(); }

  template <class T>
  void put(const T& value) {
    const auto raw = bytes_of(value);
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
  }
  template <class E>
  void put_enum(E value) {
    put(static_cast<std::underlying_type_t<E>>(value));
  }
  void put_all(std::span<const std::byte> raw) { bytes_.insert(bytes_.end(), raw.begin(), raw.end()); }
  void put_bytes(std::span<const std::byte> raw) {
    put(static_cast<std::uint32_t>(raw.size()));
    put_all(raw);
  }
  void put_text(std::string_view text) { put_bytes(std::as_bytes(std::span(text))); }
  void put_payload(const Payload& payload) {
    put(payload.size);
    put(payload.hash.value_or(0));
  }
  void put_descriptors(const std::vector<Descriptor>& descriptors) {
    put(static_cast<std::uint16_t>(descriptors.size()));
    for (const Descriptor& descriptor : descriptors) {
      put_enum(descriptor.kind);
      put(static_cast<std::uint8_t>(descriptor.sealed));
      put(descriptor.size);
    }
  }

 private:
  std::vector<std::byte>& bytes_;
};

// Reads them; after the first field that is not there, or means nothing, it has failed and gives zeros.
class FieldReader {
 public:
  explicit FieldReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  [[nodiscard]] bool good() const { return good_; }

  template <class T>
  T get() {
    const auto value = load_at<T>(bytes_);
    good_ = good_ && value.has_value();
    if (!good_) return T{};
    bytes_ = bytes_.subspan(sizeof(T));
    return *value;
  }
  // A field that files of before do not have; `T{}` then.
  template <class T>
  T get_added() {
    return bytes_.empty() ? T{} : get<T>();
  }
  template <class E>
  E get_enum(E last) {
    const auto number = get<std::underlying_type_t<E>>();
    good_ = good_ && number <= static_cast<std::underlying_type_t<E>>(last);
    return static_cast<E>(good_ ? number : 0);
  }
  std::vector<std::byte> get_bytes() {
    const std::size_t size = get<std::uint32_t>();
    good_ = good_ && size <= bytes_.size();
    if (!good_) return {};
    std::vector<std::byte> raw(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(size));
    bytes_ = bytes_.subspan(size);
    return raw;
  }
  std::string get_text() {
    const std::vector<std::byte> raw = get_bytes();
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }
  Payload get_payload(std::uint16_t flags) {
    Payload payload{.size = get<std::uint64_t>()};
    const auto hash = get<std::uint64_t>();
    if ((flags & kHashKnown) != 0) payload.hash = hash;
    return payload;
  }
  std::vector<Descriptor> get_descriptors() {
    std::vector<Descriptor> descriptors;
    for (std::uint16_t left = get<std::uint16_t>(); left > 0 && good_; --left) {
      Descriptor& descriptor = descriptors.emplace_back();
      descriptor.kind = get_enum(Descriptor::Kind::Other);
      descriptor.sealed = get<std::uint8_t>() != 0;
      descriptor.size = get<std::uint64_t>();
    }
    return descriptors;
  }
  Time get_time() {
    const auto nanoseconds = get<std::int64_t>();
    good_ = good_ && nanoseconds >= 0;
    return Time(good_ ? nanoseconds : 0);
  }

 private:
  std::span<const std::byte> bytes_;
  bool good_ = true;
};

MessageRecord read_message(FieldReader& from) {
  MessageRecord message;
  message.time = from.get_time();
  message.connection = from.get<std::uint32_t>();
  message.direction = from.get_enum(MessageRecord::Direction::ToClient);
  message.path = from.get_enum(MessageRecord::Path::Twin);
  const auto flags = from.get<std::uint16_t>();
  message.cut = (flags & kCut) != 0;
  message.by_sharing = (flags & kBySharing) != 0;
  message.header = from.get<vfio_user::Header>();
  message.payload = from.get_payload(flags);
  message.descriptors = from.get_descriptors();
  message.structure = from.get_bytes();
  return message;
}

ConnectionRecord read_connection(FieldReader& from) {
  ConnectionRecord connection;
  connection.time = from.get_time();
  connection.connection = from.get<std::uint32_t>();
  connection.event = from.get_enum(ConnectionRecord::Event::Failed);
  connection.text = from.get_text();
  return connection;
}

ProcessRecord read_process(FieldReader& from) {
  ProcessRecord process;
  process.time = from.get_time();
  process.process = from.get<std::int32_t>();
  process.thread = from.get<std::int32_t>();
  process.event = from.get_enum(ProcessRecord::Event::Killed);
  process.value = from.get<std::int64_t>();
  process.text = from.get_text();
  return process;
}

CallRecord read_call(FieldReader& from) {
  CallRecord call;
  call.time = from.get_time();
  call.took = from.get_time();
  call.process = from.get<std::int32_t>();
  call.thread = from.get<std::int32_t>();
  call.role = from.get_enum(CallRecord::Role::MigrationData);
  call.call = from.get_enum(CallRecord::Call::Close);
  const auto flags = from.get<std::uint16_t>();
  call.object = from.get<std::uint32_t>();
  call.descriptor = from.get<std::int32_t>();
  call.request = from.get<std::uint32_t>();
  call.offset = from.get<std::uint64_t>();
  call.length = from.get<std::uint64_t>();
  call.result = from.get<std::int64_t>();
  call.error = from.get<std::int32_t>();
  call.payload = from.get_payload(flags);
  call.descriptors = from.get_descriptors();
  call.text = from.get_text();
  call.argument = from.get_bytes();
  call.answer = from.get_bytes();
  call.pointed = from.get_bytes();
  call.parent = from.get_added<std::uint32_t>();
  return call;
}

NoteRecord read_note(FieldReader& from) {
  NoteRecord note;
  note.time = from.get_time();
  note.text = from.get_text();
  return note;
}

std::unexpected<Error> malformed(RecordType type) {
  return fail(EPROTO, fmt::format("a record of type {} does not hold what that type has", static_cast<int>(type)));
}

}  // namespace

Encoded Encoder::encode(const Meta& meta) {
  const json head{{"subject", meta.subject == Subject::Kernel ? "kernel" : "vfio-user"},
                  {"program", meta.program},
                  {"began", meta.began},
                  {"target", meta.target},
                  {"machine", meta.machine},
                  {"command", meta.command},
                  {"payload", meta.payload},
                  {"byte_order", "little"}};
  const std::string text = json_text(head);
  FieldWriter to(bytes_);
  to.put_all(std::as_bytes(std::span(text)));
  return encoded(RecordType::Meta);
}

Encoded Encoder::encode(const MessageRecord& message) {
  FieldWriter to(bytes_);
  to.put(message.time.count());
  to.put(message.connection);
  to.put_enum(message.direction);
  to.put_enum(message.path);
  to.put(static_cast<std::uint16_t>((message.cut ? kCut : 0) | (message.by_sharing ? kBySharing : 0) |
                                    (message.payload.hash ? kHashKnown : 0)));
  to.put(message.header);
  to.put_payload(message.payload);
  to.put_descriptors(message.descriptors);
  to.put_bytes(message.structure);
  return encoded(RecordType::Message);
}

Encoded Encoder::encode(const ConnectionRecord& connection) {
  FieldWriter to(bytes_);
  to.put(connection.time.count());
  to.put(connection.connection);
  to.put_enum(connection.event);
  to.put_text(connection.text);
  return encoded(RecordType::Connection);
}

Encoded Encoder::encode(const ProcessRecord& process) {
  FieldWriter to(bytes_);
  to.put(process.time.count());
  to.put(process.process);
  to.put(process.thread);
  to.put_enum(process.event);
  to.put(process.value);
  to.put_text(process.text);
  return encoded(RecordType::Process);
}

Encoded Encoder::encode(const CallRecord& call) {
  FieldWriter to(bytes_);
  to.put(call.time.count());
  to.put(call.took.count());
  to.put(call.process);
  to.put(call.thread);
  to.put_enum(call.role);
  to.put_enum(call.call);
  to.put(static_cast<std::uint16_t>(call.payload.hash ? kHashKnown : 0));
  to.put(call.object);
  to.put(call.descriptor);
  to.put(call.request);
  to.put(call.offset);
  to.put(call.length);
  to.put(call.result);
  to.put(call.error);
  to.put_payload(call.payload);
  to.put_descriptors(call.descriptors);
  to.put_text(call.text);
  to.put_bytes(call.argument);
  to.put_bytes(call.answer);
  to.put_bytes(call.pointed);
  to.put(call.parent);
  return encoded(RecordType::Call);
}

Encoded Encoder::encode(const NoteRecord& note) {
  FieldWriter to(bytes_);
  to.put(note.time.count());
  to.put_text(note.text);
  return encoded(RecordType::Note);
}

Encoded Encoder::encode(const Record& record) {
  return std::visit([this](const auto& one) { return encode(one); }, record);
}

Encoded Encoder::encode_piece(std::uint64_t stream, std::span<const std::byte> piece) {
  FieldWriter to(bytes_);
  to.put(stream);
  to.put_all(piece);
  return encoded(RecordType::PayloadPiece);
}

Result<Meta> decode_meta(std::span<const std::byte> body) {
  const std::string_view text(reinterpret_cast<const char*>(body.data()), body.size());
  const json found = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!found.is_object()) return malformed(RecordType::Meta);
  const auto word = [&](const char* key) {
    const auto at = found.find(key);
    return at != found.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  const std::string subject = word("subject");
  if (subject != "vfio-user" && subject != "kernel") {
    return fail(EINVAL, fmt::format("a recording of '{}': this program reads those of vfio-user and kernel", subject));
  }
  if (word("byte_order") != "little") return fail(EINVAL, "a recording of a machine with another byte order");
  Meta meta{.subject = subject == "kernel" ? Subject::Kernel : Subject::VfioUser,
            .program = word("program"),
            .began = word("began"),
            .target = word("target"),
            .machine = word("machine"),
            .payload = found.value("payload", json()) == true};
  if (const auto command = found.find("command"); command != found.end() && command->is_array()) {
    for (const json& part : *command) meta.command.push_back(part.is_string() ? part.get<std::string>() : part.dump());
  }
  return meta;
}

Result<Record> decode(RecordType type, std::span<const std::byte> body) {
  FieldReader from(body);
  Record record;
  switch (type) {
    case RecordType::Message:
      record = read_message(from);
      break;
    case RecordType::Connection:
      record = read_connection(from);
      break;
    case RecordType::Process:
      record = read_process(from);
      break;
    case RecordType::Call:
      record = read_call(from);
      break;
    case RecordType::Note:
      record = read_note(from);
      break;
    case RecordType::Meta:
    case RecordType::PayloadPiece:
      return malformed(type);
  }
  if (!from.good()) return malformed(type);
  return record;
}

std::uint64_t stream_of(const MessageRecord& message) {
  return std::uint64_t{message.connection} << 2 | static_cast<std::uint64_t>(message.path) << 1 |
         static_cast<std::uint64_t>(message.direction);
}

std::uint64_t stream_of(const CallRecord& call) { return static_cast<std::uint32_t>(call.thread); }

}  // namespace gangway::record
