"""Thin rclpy nodes: messages in, the other rooms at work, messages out."""
