"""Delivery: whether, where and when a message reaches its user, decided on the device.

Message -> rules -> choice of channel and hour -> record -> sender -> reaction -> choice

message    one message to the user, from the app or from a signed campaign that was made without knowing any user
channel    email, SMS and so on, each with its caps and quiet hours
calendar   the user's days, weeks and hours, also when their clock or time zone changes
rules      reasons to hold a message back now, and until when
choice     the channel and hour at which this user reacts most, learned from their own reactions
record     every message, sent or not, with the reason; encrypted
messenger  the class that runs all these steps
"""

from palate_client.delivery.channel import CHANNELS, Channel, Quiet
from palate_client.delivery.message import Message
from palate_client.delivery.record import Delivery
from palate_client.delivery.rules import Reason

__all__ = ["CHANNELS", "Channel", "Delivery", "Message", "Quiet", "Reason"]
