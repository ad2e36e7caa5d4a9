//! The fields of a request, read together: one refusal names every field that is bad.

use crate::core::{Refusal, Violation};

/// What was read of a request's fields, each good or bad.
pub(super) trait Fields {
    /// The values, when all are good.
    type Values;

    /// The values, or everything that is wrong.
    fn read(self) -> Result<Self::Values, Vec<Violation>>;
}

/// The values of all fields, or one refusal that names every bad one.
pub(super) fn all<F: Fields>(fields: F) -> Result<F::Values, Refusal> {
    fields.read().map_err(Refusal::Invalid)
}

/// Every element of a repeated field, or all that are bad.
pub(super) struct Each<I>(I);

/// A repeated field that is looked at only if it has no more elements than this.
pub(super) fn few<T>(field: &str, elements: Vec<T>, count_max: usize) -> Result<Vec<T>, Violation> {
    if elements.len() <= count_max {
        return Ok(elements);
    }
    let problem = format!("has {} entries, at most {count_max} are possible", elements.len());
    Err(Violation::new(field, problem))
}

/// See [`Each`].
pub(super) fn each<T, I: Iterator<Item = Result<T, Violation>>>(elements: I) -> Each<I> {
    Each(elements)
}

impl<T, I: Iterator<Item = Result<T, Violation>>> Fields for Each<I> {
    type Values = Vec<T>;

    fn read(self) -> Result<Vec<T>, Vec<Violation>> {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for element in self.0 {
            match element {
                Ok(element) => good.push(element),
                Err(violation) => bad.push(violation),
            }
        }
        if bad.is_empty() { Ok(good) } else { Err(bad) }
    }
}

impl<T> Fields for Result<T, Violation> {
    type Values = T;

    fn read(self) -> Result<T, Vec<Violation>> {
        self.map_err(|violation| vec![violation])
    }
}

macro_rules! fields {
    ($($name:ident $value:ident),+) => {
        impl<$($name: Fields),+> Fields for ($($name,)+) {
            type Values = ($($name::Values,)+);

            fn read(self) -> Result<Self::Values, Vec<Violation>> {
                let ($($value,)+) = self;
                match ($($value.read(),)+) {
                    ($(Ok($value),)+) => Ok(($($value,)+)),
                    ($($value,)+) => Err([$($value.err()),+].into_iter().flatten().flatten().collect()),
                }
            }
        }
    };
}

fields!(A a, B b);
fields!(A a, B b, C c);
fields!(A a, B b, C c, D d);
fields!(A a, B b, C c, D d, E e);
fields!(A a, B b, C c, D d, E e, F f);
fields!(A a, B b, C c, D d, E e, F f, G g);
fields!(A a, B b, C c, D d, E e, F f, G g, H h);
fields!(A a, B b, C c, D d, E e, F f, G g, H h, I i, J j);

#[cfg(test)]
mod tests {
    use super::*;

    fn bad<T>(field: &str) -> Result<T, Violation> {
        Err(Violation::new(field, "is bad"))
    }

    #[test]
    fn one_refusal_names_every_bad_field_and_no_other() {
        let refused = all((bad::<u8>("a"), Ok::<_, Violation>(2), bad::<u8>("c"))).expect_err("two are bad");
        let Refusal::Invalid(violations) = &refused else { panic!("{refused:?}") };
        let names: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        let nested = all((bad::<u8>("a"), (Ok::<_, Violation>(2), bad::<u8>("c")))).expect_err("two are bad");
        assert_eq!(nested, refused);
        let repeated = all((each([bad("a"), Ok(2), bad("c")].into_iter()), Ok::<u8, _>(3)));
        assert_eq!(repeated, Err(refused));
        assert_eq!(all((Ok::<_, Violation>(1), Ok::<_, Violation>("two"))), Ok((1, "two")));
    }
}
