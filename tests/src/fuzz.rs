//! Well-formed messages of any type with values that no client would send, which a validator must withstand.

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};

use crate::random::Random;

/// Maximum depth of nested messages.
const DEPTH_MAX: u32 = 4;
/// Texts that are valid for some field: names, paths, keys, globs, and near misses of each.
const TEXTS: [&str; 30] = [
    "",
    "star-1",
    "star-2",
    "STAR-1",
    "coordinator",
    "/",
    "/data",
    "/data/../etc",
    "..",
    "//",
    "/\u{0}",
    "a\nb",
    "1",
    "1/0/0",
    "1/0/18446744073709551616",
    "-1/0/0",
    "0/4294967295/0",
    "**/*",
    "[",
    "{a,b",
    "!",
    "\u{202e}",
    "%s%n",
    "backup-1",
    "eyJ",
    "00",
    "a:b",
    "127.0.0.1:7200",
    "''; drop",
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];
const NUMBERS: [u64; 12] = [
    0,
    1,
    2,
    50,
    1000,
    1001,
    u32::MAX as u64,
    i32::MAX as u64,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Makes messages.
#[derive(Debug)]
pub struct Fuzz {
    pool: DescriptorPool,
    random: Random,
}

impl Fuzz {
    /// The messages of a sequence of random numbers.
    pub fn new(random: Random) -> Self {
        let pool = DescriptorPool::decode(orbit_proto::FILE_DESCRIPTOR_SET);
        Self { pool: pool.expect("the build compiled the descriptors"), random }
    }

    /// The descriptors of everything that can be called.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// A message of a type, encoded.
    pub fn message(&mut self, descriptor: &MessageDescriptor) -> Vec<u8> {
        prost::Message::encode_to_vec(&self.fill(descriptor, 0))
    }

    fn fill(&mut self, descriptor: &MessageDescriptor, depth: u32) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            let is_left_out = self.random.below(4) == 0 || depth >= DEPTH_MAX;
            if !is_left_out {
                let value = self.field(&field, depth);
                message.set_field(&field, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: u32) -> Value {
        if field.is_map() {
            let text = self.text();
            return Value::Map([(MapKey::String(text.clone()), Value::String(text))].into());
        }
        if field.is_list() {
            let count = if self.random.below(20) == 0 { 2000 } else { self.random.below(4) };
            return Value::List((0..count).map(|_| self.value(&field.kind(), depth)).collect());
        }
        self.value(&field.kind(), depth)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "any value will do")]
    fn value(&mut self, kind: &Kind, depth: u32) -> Value {
        match kind {
            Kind::Double => Value::F64(self.float()),
            Kind::Float => Value::F32(self.float() as f32),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(self.number() as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(self.number() as i64),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(self.number() as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.number()),
            Kind::Bool => Value::Bool(self.random.below(2) == 0),
            Kind::String => Value::String(self.text()),
            Kind::Bytes => Value::Bytes(self.octets().into()),
            Kind::Message(descriptor) => Value::Message(self.fill(descriptor, depth + 1)),
            Kind::Enum(descriptor) => Value::EnumNumber(match self.random.below(4) {
                0 => self.number() as i32,
                _ => self.random.below(descriptor.values().len() as u64 + 1) as i32,
            }),
        }
    }

    fn number(&mut self) -> u64 {
        match self.random.below(4) {
            0 => self.random.number(),
            1 => self.random.below(10),
            _ => NUMBERS[self.random.below(NUMBERS.len() as u64) as usize],
        }
    }

    fn float(&mut self) -> f64 {
        const FLOATS: [f64; 8] = [0.0, -0.0, 1.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX, f64::MIN_POSITIVE];
        FLOATS[self.random.below(FLOATS.len() as u64) as usize]
    }

    fn text(&mut self) -> String {
        match self.random.below(24) {
            0 => "x".repeat(100_000),
            1 => String::from_utf8_lossy(&self.random.bytes(40)).into_owned(),
            _ => TEXTS[self.random.below(TEXTS.len() as u64) as usize].to_owned(),
        }
    }

    fn octets(&mut self) -> Vec<u8> {
        match self.random.below(4) {
            0 => self.random.bytes(16),
            1 => self.random.bytes(5000),
            _ => self.text().into_bytes(),
        }
    }
}
