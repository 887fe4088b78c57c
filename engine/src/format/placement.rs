//! Placement: which tiers there are, and which packs lie in them (`format-spec/placement.md`).

use super::cursor::{Reader, Write};
use super::object::{HEADER_LENGTH, TRAILER_LENGTH};
use super::pack::FOOTER_LENGTH;
use crate::backend::ObjectKind;
use crate::error::{Error, Result};
use crate::id::{PackId, TierId};
use crate::limits::{PLACED_PACKS_MAX, THAW_CLASSES_MAX, TIER_ADDRESS_MAX, TIER_LABEL_MAX, TIER_NAME_MAX};

/// Bytes of the smallest pack: one byte of frames at least.
const PACK_SIZE_MIN: u32 = (HEADER_LENGTH + 1 + FOOTER_LENGTH + TRAILER_LENGTH) as u32;
const FROZEN: u8 = 1;
const REMOVABLE: u8 = 2;
const RETIRED: u8 = 4;

/// What `placement/` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlacementBody {
    /// What a tier is.
    Tier(Box<TierBody>),
    /// What lies in one.
    Packs(PlacedPacks),
}

/// A tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierBody {
    /// How cold: 1 to 255. Packs move to higher ranks only.
    pub rank: u8,
    /// What is in it must thaw before it can be read.
    pub is_frozen: bool,
    /// A medium that is not always there.
    pub is_removable: bool,
    /// No pack moves there any more.
    pub is_retired: bool,
    /// Names the tier.
    pub tier: TierId,
    /// From 1; the highest one counts.
    pub revision: u32,
    /// So long the store takes payment for what is put there.
    pub minimum_days: u32,
    /// Seconds until the first byte, of what need not thaw.
    pub latency_s: u32,
    /// What it costs.
    pub prices: Prices,
    /// What people call it.
    pub name: String,
    /// Which medium it is, for people.
    pub label: String,
    /// Where it is.
    pub address: String,
    /// As the store calls it.
    pub storage_class: String,
    /// Ways to thaw, ascending by name.
    pub classes: Vec<ThawClass>,
}

/// What a tier costs, in millionths of the user's unit of money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prices {
    /// 10^12 bytes for 30 days.
    pub storage: u64,
    /// 10^12 bytes read.
    pub retrieval: u64,
    /// 1,000,000 requests that write.
    pub writes: u64,
    /// 1,000,000 requests that read.
    pub reads: u64,
}

/// A way to thaw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThawClass {
    /// As the store calls it.
    pub name: String,
    /// How long it takes.
    pub seconds: u32,
    /// Millionths of the unit of money for 10^12 bytes.
    pub bytes_price: u64,
    /// Millionths of the unit of money for 1,000,000 requests.
    pub requests_price: u64,
}

/// Packs that lie in a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedPacks {
    /// In which one.
    pub tier: TierId,
    /// Ascending by id, at least one.
    pub packs: Vec<PlacedPack>,
}

/// A data pack that lies in a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedPack {
    /// Which.
    pub pack: PackId,
    /// Bytes of the object.
    pub size: u32,
    /// Its last 32 bytes.
    pub hash: [u8; 32],
    /// Seconds since 1970 by the mover's clock.
    pub since: u64,
    /// The same: until then the minimum days have not passed.
    pub until: u64,
}

impl PlacementBody {
    /// The plaintext of the sealed part.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Tier(tier) => tier.encode(),
            Self::Packs(placed) => placed.encode(),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let body = match reader.u8()? {
            1 => Self::Tier(Box::new(TierBody::decode(&mut reader)?)),
            2 => Self::Packs(PlacedPacks::decode(&mut reader)?),
            form => return Err(Error::unsupported("PLACE-1", format!("placement of form {form} is not known here"))),
        };
        reader.end()?;
        Ok(body)
    }
}

impl TierBody {
    fn encode(&self) -> Vec<u8> {
        let property = |is_set, bit| if is_set { bit } else { 0 };
        let mut bytes = vec![1, self.rank];
        bytes.put_u8(property(self.is_frozen, FROZEN) | property(self.is_removable, REMOVABLE) | property(self.is_retired, RETIRED));
        bytes.put_u8(0);
        bytes.put_bytes(&self.tier.0);
        [self.revision, self.minimum_days, self.latency_s].into_iter().for_each(|number| bytes.put_u32(number));
        let Prices { storage, retrieval, writes, reads } = self.prices;
        [storage, retrieval, writes, reads].into_iter().for_each(|price| bytes.put_u64(price));
        [&self.name, &self.label, &self.address, &self.storage_class].into_iter().for_each(|text| bytes.put_blob(text.as_bytes()));
        bytes.put_varint(self.classes.len() as u64);
        for class in &self.classes {
            bytes.put_blob(class.name.as_bytes());
            bytes.put_u32(class.seconds);
            bytes.put_u64(class.bytes_price);
            bytes.put_u64(class.requests_price);
        }
        bytes
    }

    /// What follows the form.
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let (rank, properties) = (reader.u8()?, reader.u8()?);
        if rank == 0 || properties & !(FROZEN | REMOVABLE | RETIRED) != 0 {
            return Err(Error::rule("PLACE-2", format!("a tier of rank {rank} with properties {properties:#x}")));
        }
        reader.reserved(1, "CONV-4")?;
        let tier = TierId(reader.array()?);
        let revision = reader.u32()?;
        if revision == 0 {
            return Err(Error::rule("PLACE-2", "a tier of revision 0"));
        }
        let (minimum_days, latency_s) = (reader.u32()?, reader.u32()?);
        let prices = Prices { storage: reader.u64()?, retrieval: reader.u64()?, writes: reader.u64()?, reads: reader.u64()? };
        let name = read_name(reader)?;
        let (label, address) = (read_text(reader, TIER_LABEL_MAX)?, read_text(reader, TIER_ADDRESS_MAX)?);
        if address.is_empty() {
            return Err(Error::rule("PLACE-3", "a tier without an address"));
        }
        let storage_class = read_text(reader, TIER_LABEL_MAX)?;
        let mut classes: Vec<ThawClass> = Vec::new();
        for _ in 0..reader.count_at_most(THAW_CLASSES_MAX, 1, "PLACE-4")? {
            let name = read_name(reader)?;
            if classes.last().is_some_and(|before| before.name >= name) {
                return Err(Error::rule("PLACE-4", format!("class {name} is not above the one before")));
            }
            classes.push(ThawClass { name, seconds: reader.u32()?, bytes_price: reader.u64()?, requests_price: reader.u64()? });
        }
        Ok(Self {
            rank,
            is_frozen: properties & FROZEN != 0,
            is_removable: properties & REMOVABLE != 0,
            is_retired: properties & RETIRED != 0,
            tier,
            revision,
            minimum_days,
            latency_s,
            prices,
            name,
            label,
            address,
            storage_class,
            classes,
        })
    }
}

/// Whether it may be the name of a tier or of a way to thaw (PLACE-3).
pub fn is_tier_name(name: &str) -> bool {
    (1..=TIER_NAME_MAX).contains(&name.len()) && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Whether it may be a label, a storage class or, where it is not empty and `length_max` is that of addresses, an address (PLACE-3).
pub fn is_tier_text(text: &str, length_max: usize) -> bool {
    text.len() <= length_max && !text.bytes().any(|byte| byte < 0x20 || byte == 0x7f)
}

fn read_name(reader: &mut Reader<'_>) -> Result<String> {
    let name = std::str::from_utf8(reader.blob()?).ok().filter(|name| is_tier_name(name));
    name.map(str::to_owned).ok_or_else(|| Error::rule("PLACE-3", "this is no name of a tier or class"))
}

fn read_text(reader: &mut Reader<'_>, length_max: usize) -> Result<String> {
    let text = std::str::from_utf8(reader.blob()?).ok().filter(|text| is_tier_text(text, length_max));
    text.map(str::to_owned).ok_or_else(|| Error::rule("PLACE-3", "a text of a tier is too long, or no text"))
}

impl PlacedPacks {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        bytes.put_bytes(&self.tier.0);
        bytes.put_varint(self.packs.len() as u64);
        for placed in &self.packs {
            bytes.put_bytes(&placed.pack.0);
            bytes.put_u32(placed.size);
            bytes.put_bytes(&placed.hash);
            bytes.put_u64(placed.since);
            bytes.put_u64(placed.until);
        }
        bytes
    }

    /// What follows the form.
    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        reader.reserved(3, "CONV-4")?;
        let tier = TierId(reader.array()?);
        let count = reader.count_at_most(PLACED_PACKS_MAX, 1, "PLACE-5")?;
        if count == 0 {
            return Err(Error::rule("PLACE-5", "no packs"));
        }
        let mut packs: Vec<PlacedPack> = Vec::new();
        for _ in 0..count {
            let pack = PackId(reader.array()?);
            if packs.last().is_some_and(|before| before.pack >= pack) {
                return Err(Error::rule("PLACE-5", format!("pack {pack} is not above the one before")));
            }
            let (size, hash) = (reader.u32()?, reader.array()?);
            if size < PACK_SIZE_MIN || u64::from(size) > ObjectKind::DataPack.size_max() {
                return Err(Error::rule("PLACE-6", format!("pack {pack} of {size} bytes")));
            }
            let (since, until) = (reader.u64()?, reader.u64()?);
            if until < since {
                return Err(Error::rule("PLACE-6", format!("pack {pack} is there since {since}, until {until}")));
            }
            packs.push(PlacedPack { pack, size, hash, since, until });
        }
        Ok(Self { tier, packs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::{mutate, refused};
    use proptest::collection::{btree_map, btree_set};
    use proptest::prelude::*;

    fn tier() -> TierBody {
        TierBody {
            rank: 1,
            is_frozen: true,
            is_removable: false,
            is_retired: false,
            tier: TierId([3; 16]),
            revision: 2,
            minimum_days: 90,
            latency_s: 5,
            prices: Prices { storage: 1, retrieval: 2, writes: 3, reads: 4 },
            name: "glacier".into(),
            label: "the bucket in the mountains".into(),
            address: "/mnt/cold".into(),
            storage_class: "DEEP_ARCHIVE".into(),
            classes: vec![class("bulk"), class("standard")],
        }
    }

    fn class(name: &str) -> ThawClass {
        ThawClass { name: name.into(), seconds: 9, bytes_price: 8, requests_price: 7 }
    }

    fn pack(id: u8) -> PlacedPack {
        PlacedPack { pack: PackId([id; 16]), size: 329, hash: [id; 32], since: 5, until: 5 }
    }

    fn packs(packs: Vec<PlacedPack>) -> PlacementBody {
        PlacementBody::Packs(PlacedPacks { tier: TierId([3; 16]), packs })
    }

    fn bodies() -> impl Strategy<Value = PlacementBody> {
        let tiers =
            ((1..=255_u8, 0..8_u8, 1..=u32::MAX), any::<[u64; 4]>(), "[a-z0-9-]{1,64}", "[ -~é]{1,40}", btree_set("[a-z0-9-]{1,9}", 0..5));
        let tiers = tiers.prop_map(|((rank, properties, revision), [storage, retrieval, writes, reads], name, text, classes)| {
            PlacementBody::Tier(Box::new(TierBody {
                rank,
                is_frozen: properties & 1 != 0,
                is_removable: properties & 2 != 0,
                is_retired: properties & 4 != 0,
                revision,
                prices: Prices { storage, retrieval, writes, reads },
                name,
                label: text.clone(),
                address: text,
                classes: classes.iter().map(|name| class(name)).collect(),
                ..tier()
            }))
        });
        let some = btree_map(any::<[u8; 16]>(), (329..=201_326_592_u32, any::<[u8; 32]>(), any::<[u32; 2]>()), 1..5);
        let placed = some.prop_map(|some| {
            let one = |(id, (size, hash, [since, longer])): (_, (_, _, [u32; 2]))| PlacedPack {
                pack: PackId(id),
                size,
                hash,
                since: since.into(),
                until: u64::from(since) + u64::from(longer),
            };
            packs(some.into_iter().map(one).collect())
        });
        prop_oneof![tiers, placed]
    }

    proptest! {
        #[test]
        fn bodies_read_back(body in bodies()) {
            prop_assert_eq!(PlacementBody::decode(&body.encode()).unwrap(), body);
        }

        #[test]
        fn what_is_accepted_is_canonical(body in bodies(), changes in mutate::changes()) {
            let bytes = mutate::apply(body.encode(), &changes);
            if let Ok(body) = PlacementBody::decode(&bytes) {
                prop_assert_eq!(body.encode(), bytes);
            }
        }
    }

    #[test]
    fn rules_are_named() {
        let wrong_tier = |rule, change: &dyn Fn(&mut TierBody)| {
            let mut tier = tier();
            change(&mut tier);
            refused(rule, PlacementBody::decode(&PlacementBody::Tier(Box::new(tier)).encode()));
        };
        wrong_tier("PLACE-2", &|tier| tier.rank = 0);
        wrong_tier("PLACE-2", &|tier| tier.revision = 0);
        for name in ["", "Cold", "cold tier", &"a".repeat(65)] {
            wrong_tier("PLACE-3", &|tier| tier.name = name.into());
            wrong_tier("PLACE-3", &|tier| tier.classes[0].name = name.into());
        }
        wrong_tier("PLACE-3", &|tier| tier.label = "a\nb".into());
        wrong_tier("PLACE-3", &|tier| tier.label = "a".repeat(257));
        wrong_tier("PLACE-3", &|tier| tier.address = String::new());
        wrong_tier("PLACE-3", &|tier| tier.address = "a".repeat(4097));
        wrong_tier("PLACE-3", &|tier| tier.storage_class = "\x7f".into());
        wrong_tier("PLACE-4", &|tier| tier.classes.reverse());
        wrong_tier("PLACE-4", &|tier| tier.classes = vec![class("bulk"); 2]);
        wrong_tier("PLACE-4", &|tier| tier.classes = (10..27).map(|n| class(&n.to_string())).collect());
        let wrong_packs = |rule, some: Vec<PlacedPack>| refused(rule, PlacementBody::decode(&packs(some).encode()));
        wrong_packs("PLACE-5", vec![]);
        wrong_packs("PLACE-5", vec![pack(1), pack(1)]);
        wrong_packs("PLACE-5", vec![pack(2), pack(1)]);
        wrong_packs("PLACE-6", vec![PlacedPack { size: 328, ..pack(1) }]);
        wrong_packs("PLACE-6", vec![PlacedPack { size: 201_326_593, ..pack(1) }]);
        wrong_packs("PLACE-6", vec![PlacedPack { until: 4, ..pack(1) }]);
        let mut bytes = packs(vec![pack(1)]).encode();
        bytes[0] = 3;
        assert_eq!(PlacementBody::decode(&bytes).unwrap_err().kind(), crate::ErrorKind::Unsupported);
        bytes[..2].copy_from_slice(&[2, 1]);
        refused("CONV-4", PlacementBody::decode(&bytes));
    }
}
