//! Connection to NATS JetStream: streams, typed publish and consume, trace context.
