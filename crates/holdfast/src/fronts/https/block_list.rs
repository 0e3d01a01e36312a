//! The body of Put Block List: XML of one fixed shape.

use hub::upload::BLOCKS_MAX;

/// Reads the ids in their order. `<Latest>` and `<Uncommitted>` mean the same here; what was committed before is not kept
/// for later lists, so that `<Committed>` names nothing that there is. The text says what is wrong.
pub(super) fn parse(xml: &[u8]) -> Result<Vec<String>, &'static str> {
    let text = std::str::from_utf8(xml).map_err(|_| "the list of blocks is not UTF-8")?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    let text = match text.strip_prefix("<?") {
        Some(rest) => rest.split_once("?>").ok_or("the XML declaration has no end")?.1.trim_start(),
        None => text,
    };
    if matches!(text, "<BlockList/>" | "<BlockList />") {
        return Ok(Vec::new());
    }
    let inner = text.strip_prefix("<BlockList>").and_then(|rest| rest.strip_suffix("</BlockList>"));
    let mut rest = inner.ok_or("the root of the list is not BlockList")?.trim_start();
    let mut ids = Vec::new();
    while !rest.is_empty() {
        let (tag, after) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')).ok_or(ELEMENT)?;
        if !matches!(tag, "Latest" | "Uncommitted" | "Committed") {
            return Err(ELEMENT);
        }
        let (id, after) = after.split_once("</").ok_or("an element of the list has no end")?;
        let after = after.strip_prefix(tag).and_then(|after| after.strip_prefix('>'));
        let after = after.ok_or("an element of the list ends by another name")?;
        if id.contains(['<', '&']) {
            return Err("a block id is base64 without entities");
        }
        if ids.len() >= BLOCKS_MAX {
            return Err("the list has more than 50,000 blocks");
        }
        ids.push(id.to_owned());
        rest = after.trim_start();
    }
    Ok(ids)
}

const ELEMENT: &str = "the list holds something else than Latest, Uncommitted and Committed";

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?><BlockList><Latest>AAAA</Latest><Latest>BB+/==</Latest></BlockList>";

    #[test]
    fn the_lists_of_the_sdks_are_read() {
        let two = Ok(vec!["AAAA".to_owned(), "BB+/==".to_owned()]);
        assert_eq!(parse(NODE.as_bytes()), two);
        let python = "<?xml version='1.0' encoding='utf-8'?>\n<BlockList><Latest>AAAA</Latest><Uncommitted>BB+/==</Uncommitted></BlockList>\n";
        assert_eq!(parse(python.as_bytes()), two);
        let c = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<BlockList>\r\n  <Latest>AAAA</Latest>\r\n  <Latest>BB+/==</Latest>\r\n</BlockList>";
        assert_eq!(parse(c.as_bytes()), two);
        assert_eq!(parse(b"<BlockList />"), Ok(Vec::new()));
        assert_eq!(parse(b"<BlockList></BlockList>"), Ok(Vec::new()));
    }

    #[test]
    fn every_truncation_is_an_error() {
        for end in 0..NODE.len() {
            assert!(parse(&NODE.as_bytes()[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in [
            "<BlockList><Other>A</Other></BlockList>",
            "<BlockList><Latest>A</Uncommitted></BlockList>",
            "<BlockList><Latest>&lt;</Latest></BlockList>",
            "<BlockList>A</BlockList>",
            "<Blocks></Blocks>",
            "{}",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(&[0xff]).is_err());
        let many = "<Latest>A</Latest>".repeat(BLOCKS_MAX + 1);
        assert!(parse(format!("<BlockList>{many}</BlockList>").as_bytes()).is_err());
    }
}
