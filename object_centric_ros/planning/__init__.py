"""Goals, costs, CEM and the receding-horizon loop. No ROS."""
