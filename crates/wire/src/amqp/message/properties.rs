use super::MessageId;
use crate::amqp::codec::{Composite, DecodeError, Writer};
use crate::amqp::descriptor;

/// The standard properties of a message (OASIS part 3, section 3.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties<'a> {
    /// Identifies the message.
    pub message_id: Option<MessageId<'a>>,
    /// Who made the message.
    pub user_id: Option<&'a [u8]>,
    /// Address the message is for.
    pub to: Option<&'a str>,
    /// What the message is about.
    pub subject: Option<&'a str>,
    /// Address for answers.
    pub reply_to: Option<&'a str>,
    /// The message that this one belongs to.
    pub correlation_id: Option<MessageId<'a>>,
    /// MIME type of the body.
    pub content_type: Option<&'a str>,
    /// MIME encoding of the body.
    pub content_encoding: Option<&'a str>,
    /// When the message is of no use any more, in milliseconds since the Unix epoch.
    pub absolute_expiry_time: Option<i64>,
    /// When the message was made, in milliseconds since the Unix epoch.
    pub creation_time: Option<i64>,
    /// The group the message belongs to.
    pub group_id: Option<&'a str>,
    /// Place of the message in its group.
    pub group_sequence: Option<u32>,
    /// The group that answers belong to.
    pub reply_to_group_id: Option<&'a str>,
}

impl<'a> Properties<'a> {
    pub(super) fn read(mut r: Composite<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            message_id: MessageId::read(r.field()?)?,
            user_id: r.binary()?,
            to: r.text()?,
            subject: r.text()?,
            reply_to: r.text()?,
            correlation_id: MessageId::read(r.field()?)?,
            content_type: r.text()?,
            content_encoding: r.text()?,
            absolute_expiry_time: r.timestamp()?,
            creation_time: r.timestamp()?,
            group_id: r.text()?,
            group_sequence: r.uint()?,
            reply_to_group_id: r.text()?,
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        let list = w.composite(descriptor::PROPERTIES);
        w.optional(self.message_id, |w, id| id.write(w));
        w.opt_binary(self.user_id);
        w.opt_string(self.to);
        w.opt_string(self.subject);
        w.opt_string(self.reply_to);
        w.optional(self.correlation_id, |w, id| id.write(w));
        write_symbolic(w, self.content_type);
        write_symbolic(w, self.content_encoding);
        w.opt_timestamp(self.absolute_expiry_time);
        w.opt_timestamp(self.creation_time);
        w.opt_string(self.group_id);
        w.opt_uint(self.group_sequence);
        w.opt_string(self.reply_to_group_id);
        w.end(list, 13);
    }
}

/// Writes a text as symbol. One that a symbol cannot hold came as a string and goes out as one.
fn write_symbolic(w: &mut Writer<'_>, text: Option<&str>) {
    match text {
        Some(text) if text.is_ascii() => w.symbol(text),
        text => w.opt_string(text),
    }
}
