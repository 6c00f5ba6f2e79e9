"""Delivery: whether, where and when a message reaches its user, decided on the device.

Message -> rules -> choice of channel and hour -> record -> sender -> reaction -> choice

message    what is to be told, by the app, or by a signed campaign that knows nobody
channel    ways to the user, with their caps and quiet hours
calendar   the user's days, weeks and hours, wherever their clock and time zone have been
rules      what forbids a message now, and until when
choice     which channel and hour this user answers, learned from their own reactions
record     every message, sent or not, with the reason; encrypted
messenger  the path, in one class
"""

from palate_client.delivery.channel import CHANNELS, Channel, Quiet
from palate_client.delivery.message import Message
from palate_client.delivery.record import Delivery
from palate_client.delivery.rules import Reason

__all__ = ["CHANNELS", "Channel", "Delivery", "Message", "Quiet", "Reason"]
