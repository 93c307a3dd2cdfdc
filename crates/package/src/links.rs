//! Which symbolic links may be in a tree: those that cannot lead out of it, whatever else is there.

use entracte_model::RelPath;

/// The longest target of a link in bytes: PATH_MAX of Linux, less its final NUL.
pub(crate) const TARGET_BYTES_MAX: usize = 4_095;

/// Whether a link at `path` to `target` stays in the tree.
///
/// `..` is taken only at the beginning, where it starts from the link's own real folder. Behind a
/// name it would start from wherever that name leads, if the name is itself a link.
pub fn stays_inside(path: &RelPath, target: &str) -> bool {
    let well_formed = !target.is_empty()
        && target.len() <= TARGET_BYTES_MAX
        && !target.starts_with('/')
        && !target.chars().any(char::is_control)
        && !target.contains('\\');
    let mut room = path.as_str().matches('/').count();
    let mut descended = false;
    well_formed
        && target.split('/').all(|name| match name {
            "" | "." => true,
            ".." if descended || room == 0 => false,
            ".." => {
                room -= 1;
                true
            }
            _ => {
                descended = true;
                true
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(path: &str, target: &str) -> bool {
        stays_inside(&path.parse().unwrap(), target)
    }

    #[test]
    fn a_link_may_climb_to_the_root_of_the_tree_and_no_further() {
        assert!(inside("a/b/link", "../../c"));
        assert!(inside("a/b/link", ".."));
        assert!(inside("link", "./a/b/"));
        assert!(!inside("a/b/link", "../../../c"));
        assert!(!inside("link", ".."));
    }

    #[test]
    fn absolute_empty_and_unprintable_targets_are_refused() {
        for target in ["/etc/passwd", "", "a\nb", "a\\b"] {
            assert!(!inside("link", target), "{target:?} was taken");
        }
        assert!(!inside("link", &"x/".repeat(2_048)));
    }

    #[test]
    fn climbing_behind_a_name_is_refused_since_the_name_may_be_a_link_itself() {
        assert!(!inside("m", "d/e/l/.."));
        assert!(!inside("a/m", "../d/../x"));
    }
}
