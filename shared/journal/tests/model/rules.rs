//! The switches: a rule of `docs/protocol.md` that is off is not followed by anybody in the model.

/// Which rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Rule 1. Off: a signal that changes nothing is acknowledged as soon as that is decided. (What changes something is
    /// still acknowledged after its append: this is the smallest way to break the rule.)
    pub(crate) no_ack_without_append: bool,
    /// Rule 2. Off: a new owner leaves the former consumers alone, whose pending messages come back late, and decides
    /// without `Owner{epoch}` in the journal.
    pub(crate) takeover_order: bool,
    /// Rule 3. Off: a new owner sends nothing again.
    pub(crate) dispatch_recorded: bool,
    /// Rule 4. Off: SIGNALS is drained first, TASKS and the announcements are read after that.
    pub(crate) recovery_order: bool,
    /// Rule 5. Off: nobody looks at the creation time of TASKS.
    pub(crate) tasks_can_vanish: bool,
    /// Rule 6. Off: the target keeps a highest fence per step.
    pub(crate) fence_per_target: bool,

    /// The conditional append itself. Off: JOURNAL takes whatever comes.
    pub(crate) conditional_append: bool,
    /// Promise: nothing leaves before its cause is stored. Off: effects leave with the append.
    pub(crate) effects_follow_the_commit: bool,
    /// Rule 14. Off: a checkpoint holds what is applied and not stored.
    pub(crate) checkpoints_acknowledged: bool,
    /// Part of rule 2: a taker deletes consumers of lower epochs alone, also those created since its fence, and gives up
    /// before a higher one. Off: it deletes whatever consumer there is once, then creates its own beside any other.
    pub(crate) newest_consumer_wins: bool,
    /// Part of rule 5: nobody, also no new owner, reads TASKS and the announcements before a full worker lease has passed
    /// since TASKS was created. Off: they are read at once.
    pub(crate) silence_before_reading: bool,
    /// Part of rule 5: a task that is announced and not in TASKS is watched; when it is announced no longer, that is
    /// another loss. Off: one look after each loss is all.
    pub(crate) watch_announcements: bool,
    /// Part of rule 14: commits whose effects may still have to be sent again are not trimmed. Off: trimming looks at the
    /// older checkpoint alone.
    pub(crate) trim_after_dispatch: bool,
}

impl Rules {
    /// The protocol.
    pub(crate) const ALL: Self = Self {
        no_ack_without_append: true,
        takeover_order: true,
        dispatch_recorded: true,
        recovery_order: true,
        tasks_can_vanish: true,
        fence_per_target: true,
        conditional_append: true,
        effects_follow_the_commit: true,
        checkpoints_acknowledged: true,
        newest_consumer_wins: true,
        silence_before_reading: true,
        watch_announcements: true,
        trim_after_dispatch: true,
    };
}
